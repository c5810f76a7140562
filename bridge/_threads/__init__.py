"""What the standard library lacks: native threads under gevent, and waits that signals interrupt."""
