//! The examples that speak to other services. They stand apart from the others, which then need no
//! gRPC, no AMQP and no HTTP.
