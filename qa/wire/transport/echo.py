"""Methods that send back what they get."""

from tritium.wire.grpc import Methods


async def echo(message, call):
    return bytes(message)


async def echo_each(messages, call):
    async for message in messages:
        call.write(bytes(message))
        await call.drain()


ECHO = Methods(unary={"/s/Echo": echo}, bidi={"/s/Each": echo_each})
