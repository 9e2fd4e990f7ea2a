"""The decision core: events in, effects out.

Everything here is synchronous and pure in the sense that matters: no event loop, no socket, no
clock, no logging. Time is a float of monotonic seconds passed as ``now``; chance is an ``Rng``.
The proxy, the Envoy endpoint picker, the simulator and ``explain`` drive this same code.
"""
