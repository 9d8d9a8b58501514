"""ThreadPool, the event loop, the ticker and interrupts."""
