-- For wrk: check every response, and print one line of JSON at the end. The argument after "--" is the page's text.
-- Times are in µs; wrk's percentiles are corrected for requests that it could not send while it waited for a slow one.
local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function init(args)
  expected = args[1]
  wrong = 0
  example = ""
end

function response(status, headers, body)
  if status ~= 200 or body ~= expected then
    wrong = wrong + 1
    example = status .. " " .. body
  end
end

function done(summary, latency, requests)
  local wrong, example = 0, ""
  for _, thread in ipairs(threads) do
    wrong = wrong + thread:get("wrong")
    if thread:get("example") ~= "" then example = thread:get("example") end
  end
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests": %d, "duration": %d, "p50": %d, "p99": %d, "p99.9": %d, "wrong": %d, "example": "%s", '
      .. '"connect": %d, "read": %d, "write": %d, "timeout": %d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), latency:percentile(99.9),
    wrong, example:gsub('[%c"\\]', " "):sub(1, 200), errors.connect, errors.read, errors.write, errors.timeout))
end
