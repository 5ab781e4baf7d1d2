//! The codec of calls whose requests are bounded.

use std::marker::PhantomData;

use prost::bytes::Buf;
use prost::{Message, Name};
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

use super::{PART_BYTES_MAX, RequestShapes};

/// A protocol whose messages are described.
pub trait DescribedProtocol: Send + Sync + 'static {
    /// Returns the messages that its clients send.
    fn requests() -> &'static RequestShapes;
}

/// Codec of the calls of a protocol, `P`: as that of prost, but a request whose parts take more
/// than [`PART_BYTES_MAX`] is refused before it is decoded.
pub struct BoundedCodec<P, E, D>(PhantomData<(P, E, D)>);

impl<P, E, D> Default for BoundedCodec<P, E, D> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<P, E, D> Codec for BoundedCodec<P, E, D>
where
    P: DescribedProtocol,
    E: Message + Send + 'static,
    D: Message + Default + Name + Send + 'static,
{
    type Encode = E;
    type Decode = D;
    type Encoder = ProstEncoder<E>;
    type Decoder = BoundedDecoder<D>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<E, D>::raw_encoder(BufferSettings::default())
    }

    fn decoder(&mut self) -> Self::Decoder {
        let shapes = P::requests();
        let request = shapes.request(&D::full_name());
        let inner = ProstCodec::<E, D>::raw_decoder(BufferSettings::default());
        BoundedDecoder { request: request.map(|request| (shapes, request)), inner }
    }
}

/// Decoder of a [`BoundedCodec`].
pub struct BoundedDecoder<D> {
    /// `None` for messages that are not sent to a server.
    request: Option<(&'static RequestShapes, usize)>,
    inner: ProstDecoder<D>,
}

impl<D: Message + Default> Decoder for BoundedDecoder<D> {
    type Item = D;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<D>, Status> {
        if let Some((shapes, request)) = self.request {
            let bytes = message.chunk();
            if bytes.len() < message.remaining() {
                return Err(Status::internal("the message is not in one piece"));
            }
            if !shapes.is_within(request, bytes, PART_BYTES_MAX) {
                let text = format!(
                    "the parts of the message take more than {PART_BYTES_MAX} bytes of memory, \
                     send fewer at once"
                );
                return Err(Status::out_of_range(text));
            }
        }
        self.inner.decode(message)
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.inner.buffer_settings()
    }
}
