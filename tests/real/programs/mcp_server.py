"""An MCP server over HTTP, on a port that is given, or on its standard streams if that is ``stdio``."""

from __future__ import annotations

import sys

import anyio
from mcp.server import MCPServer

server = MCPServer("adder")


@server.tool()
def add(first: int, second: int) -> int:
    """Add two numbers."""
    return first + second


@server.tool()
async def greet(name: str) -> str:
    """Greet."""
    return f"hello {name}"


if __name__ == "__main__" and sys.argv[1] == "stdio":

    @server.tool()
    async def wait(seconds: float) -> None:
        """Wait."""
        await anyio.sleep(seconds)

    server.run("stdio")
elif __name__ == "__main__":
    import uvicorn

    uvicorn.run(server.streamable_http_app(), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
