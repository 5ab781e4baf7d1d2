//! The bound on the memory of requests, for the protocols that are described in this crate.

use std::sync::LazyLock;

use leftfold_protocol::bounded::{BoundedCodec, DescribedProtocol, RequestShapes};

/// The protocols of other stores, as they are described in the folder `proto`.
#[derive(Debug)]
pub(crate) struct FacadeProtocols;

static REQUESTS: LazyLock<RequestShapes> = LazyLock::new(|| {
    let described = include_bytes!(concat!(env!("OUT_DIR"), "/described.bin"));
    RequestShapes::described(described).expect("the build has written the descriptions")
});

impl DescribedProtocol for FacadeProtocols {
    fn requests() -> &'static RequestShapes {
        &REQUESTS
    }
}

/// Codec of the calls of these protocols.
pub(crate) type FacadeCodec<E, D> = BoundedCodec<FacadeProtocols, E, D>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_list_of_any_request_of_the_other_protocols_is_without_a_bound() {
        let unbounded = REQUESTS.unbounded_lists(4 << 20);
        assert!(unbounded.is_empty(), "{unbounded:#?}");
        let described = REQUESTS.methods().map(|(service, _)| service).collect::<Vec<_>>();
        for service in ["umadb.v1.DCB", "event_store.client.streams.Streams"] {
            assert!(described.contains(&service), "{described:?}");
        }
    }
}
