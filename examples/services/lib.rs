//! The examples that speak to other services. They stand apart from the others, which then need no gRPC and no AMQP.
