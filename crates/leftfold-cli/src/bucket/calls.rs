//! Calls of the protocol of S3: signed, over one connection, and tried again.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::SendRequest;
use hyper::header::{CONTENT_LENGTH, DATE, ETAG, HOST, HeaderMap, IF_MATCH, IF_NONE_MATCH};
use hyper::header::{LAST_MODIFIED, RANGE};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use jiff::fmt::rfc2822;
use leftfold::remote::{RemoteOptions, dial_http1};
use rusty_s3::S3Action;
use rusty_s3::actions::{CreateMultipartUpload, ListObjectsV2};
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};

use super::place::BucketPlace;
use crate::progress::Interrupt;

/// Bytes of a part of an object that is uploaded or read at once.
pub(super) const PART_BYTES: usize = 8 << 20;
/// Bytes of an answer: a part, and what is around a list.
const ANSWER_BYTES_MAX: usize = 32 << 20;
/// Bytes of a message of the storage that are shown.
const MESSAGE_BYTES_MAX: usize = 512;
/// Time for which a signature is good.
const SIGNED_FOR: Duration = Duration::from_secs(15 * 60);
/// Time that one call may take.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5 * 60);
/// Times that a call is made, if the storage does not answer or is busy.
const TRIES: u32 = 5;
/// Time after which it is not made again. With the last try it is less than the time after which
/// somebody else takes the lock over.
const TRIED_AGAIN_WITHIN: Duration = Duration::from_secs(8 * 60);
/// The wait after the first of them, which is doubled.
const FIRST_WAIT: Duration = Duration::from_millis(200);

/// Calls to one place.
#[derive(Debug)]
pub(super) struct BucketCalls {
    pub(super) place: BucketPlace,
    interrupt: Interrupt,
    runtime: Handle,
    connection: Mutex<Option<SendRequest<Full<Bytes>>>>,
}

/// An object that is there.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) bytes: u64,
    /// Name of its present content.
    pub(super) tag: String,
    /// Time since its last change, by the clock of the storage.
    pub(super) age: Duration,
}

/// Condition under which an object is not written.
#[derive(Clone, Debug)]
pub(super) enum Unless {
    Never,
    /// One of the name is there.
    There,
    /// It has another content than that of the tag.
    Changed(String),
}

struct StorageAnswer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl BucketCalls {
    /// Calls from the runtime of the caller. An interrupt ends those that move parts and change
    /// nothing that others see; what comes behind it is not begun.
    pub(super) fn to(place: BucketPlace, interrupt: Interrupt) -> Self {
        Self { place, interrupt, runtime: Handle::current(), connection: Mutex::default() }
    }

    /// Finds an object: [`io::ErrorKind::NotFound`] if it is not there.
    pub(super) fn find(&self, name: &str) -> io::Result<Found> {
        let object = self.place.object(name);
        let action = self.place.bucket.head_object(self.place.credentials.as_ref(), &object);
        let answer = self.call(Method::HEAD, &action, &[], Bytes::new())?;
        let headers = &self.good(&format!("find {object}"), answer)?.headers;
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
        let moment = |name| rfc2822::parse(text(name)).map(|zoned| zoned.timestamp()).ok();
        let age = moment(DATE).zip(moment(LAST_MODIFIED)).map(|(now, at)| now.duration_since(at));
        Ok(Found {
            bytes: text(CONTENT_LENGTH).parse().map_err(io::Error::other)?,
            tag: text(ETAG).to_owned(),
            age: age.and_then(|age| Duration::try_from(age).ok()).unwrap_or_default(),
        })
    }

    /// Reads a part of an object.
    pub(super) fn range(&self, name: &str, offset: u64, bytes: u64) -> io::Result<Bytes> {
        let object = self.place.object(name);
        let action = self.place.bucket.get_object(self.place.credentials.as_ref(), &object);
        let range = format!("bytes={offset}-{}", offset + bytes.max(1) - 1);
        let headers = [(RANGE.as_str(), range)];
        let answer = self.call_for_part(Method::GET, &action, &headers, Bytes::new())?;
        let body = self.good(&format!("read {object}"), answer)?.body;
        match body.len() as u64 == bytes {
            true => Ok(body),
            false => Err(io::Error::other(format!("{object} was changed while it was read"))),
        }
    }

    /// Writes an object, and returns its tag; `None` if the condition does not allow it.
    pub(super) fn put(
        &self,
        name: &str,
        content: Vec<u8>,
        unless: Unless,
    ) -> io::Result<Option<String>> {
        let object = self.place.object(name);
        let action = self.place.bucket.put_object(self.place.credentials.as_ref(), &object);
        let condition = match unless {
            Unless::Never => None,
            Unless::There => Some((IF_NONE_MATCH.as_str(), "*".to_owned())),
            Unless::Changed(tag) => Some((IF_MATCH.as_str(), tag)),
        };
        let headers: Vec<_> = condition.into_iter().collect();
        let answer = self.call(Method::PUT, &action, &headers, content.into())?;
        let is_refused = match answer.status {
            StatusCode::PRECONDITION_FAILED | StatusCode::CONFLICT => true,
            // The one that was to be replaced is gone.
            status => status == StatusCode::NOT_FOUND && is_missing(&answer.body),
        };
        if !headers.is_empty() && is_refused {
            return Ok(None);
        }
        tag_of(&self.good(&format!("write {object}"), answer)?).map(Some)
    }

    pub(super) fn delete(&self, name: &str) -> io::Result<()> {
        let object = self.place.object(name);
        let action = self.place.bucket.delete_object(self.place.credentials.as_ref(), &object);
        let answer = self.call(Method::DELETE, &action, &[], Bytes::new())?;
        self.good(&format!("remove {object}"), answer).map(drop)
    }

    /// Removes an object if it has the content of the tag. Storage that knows no such condition
    /// removes any: look at the tag first.
    pub(super) fn delete_same(&self, name: &str, tag: String) -> io::Result<()> {
        let object = self.place.object(name);
        let action = self.place.bucket.delete_object(self.place.credentials.as_ref(), &object);
        let headers = [(IF_MATCH.as_str(), tag)];
        let answer = self.call(Method::DELETE, &action, &headers, Bytes::new())?;
        match answer.status {
            StatusCode::NOT_IMPLEMENTED => self.delete(name),
            _ => self.good(&format!("remove {object}"), answer).map(drop),
        }
    }

    /// The names behind the prefix, without those that are deeper.
    pub(super) fn names(&self) -> io::Result<Vec<String>> {
        let (mut names, mut token) = (Vec::new(), None::<String>);
        loop {
            let credentials = self.place.credentials.as_ref();
            let mut action = self.place.bucket.list_objects_v2(credentials);
            action.with_prefix(self.place.prefix.clone());
            action.with_delimiter("/");
            if let Some(token) = &token {
                action.with_continuation_token(token.clone());
            }
            let answer = self.call(Method::GET, &action, &[], Bytes::new())?;
            let body = self.good("list the objects", answer)?.body;
            let text = String::from_utf8(body.into()).map_err(io::Error::other)?;
            let page = ListObjectsV2::parse_response(&text).map_err(io::Error::other)?;
            for object in page.contents {
                names.extend(object.key.strip_prefix(&self.place.prefix).map(str::to_owned));
            }
            token = page.next_continuation_token;
            if token.is_none() {
                names.retain(|name| !name.is_empty());
                return Ok(names);
            }
        }
    }

    /// Begins an object of several parts, and returns the name of the upload.
    pub(super) fn begin_upload(&self, name: &str) -> io::Result<String> {
        let object = self.place.object(name);
        let credentials = self.place.credentials.as_ref();
        let action = self.place.bucket.create_multipart_upload(credentials, &object);
        let answer = self.call(Method::POST, &action, &[], Bytes::new())?;
        let body = self.good(&format!("begin {object}"), answer)?.body;
        let text = String::from_utf8(body.into()).map_err(io::Error::other)?;
        let begun = CreateMultipartUpload::parse_response(&text).map_err(io::Error::other)?;
        Ok(begun.upload_id().to_owned())
    }

    /// Uploads a part, and returns its tag.
    pub(super) fn put_part(
        &self,
        name: &str,
        (upload, number): (&str, u16),
        content: Vec<u8>,
    ) -> io::Result<String> {
        let object = self.place.object(name);
        let credentials = self.place.credentials.as_ref();
        let action = self.place.bucket.upload_part(credentials, &object, number, upload);
        let answer = self.call_for_part(Method::PUT, &action, &[], content.into())?;
        tag_of(&self.good(&format!("write part {number} of {object}"), answer)?)
    }

    /// Puts the parts together.
    pub(super) fn end_upload(&self, name: &str, upload: &str, tags: &[String]) -> io::Result<()> {
        let object = self.place.object(name);
        let credentials = self.place.credentials.as_ref();
        let tags = tags.iter().map(String::as_str);
        let complete =
            self.place.bucket.complete_multipart_upload(credentials, &object, upload, tags);
        let body = complete.clone().body().into();
        let answer = self.call(Method::POST, &complete, &[], body)?;
        let answer = self.good(&format!("complete {object}"), answer)?;
        // It may fail after it has begun to answer.
        match answer.body.windows(6).any(|part| part == b"<Error") {
            true => Err(self.failed(&format!("complete {object}"), &answer)),
            false => Ok(()),
        }
    }

    pub(super) fn give_up(&self, name: &str, upload: &str) -> io::Result<()> {
        let object = self.place.object(name);
        let credentials = self.place.credentials.as_ref();
        let action = self.place.bucket.abort_multipart_upload(credentials, &object, upload);
        self.call(Method::DELETE, &action, &[], Bytes::new()).map(drop)
    }

    fn good(&self, doing: &str, answer: StorageAnswer) -> io::Result<StorageAnswer> {
        match answer.status {
            status if status.is_success() => Ok(answer),
            StatusCode::NOT_FOUND if answer.body.is_empty() || is_missing(&answer.body) => {
                Err(io::ErrorKind::NotFound.into())
            }
            _ => Err(self.failed(doing, &answer)),
        }
    }

    fn failed(&self, doing: &str, answer: &StorageAnswer) -> io::Error {
        let shown = &answer.body[..answer.body.len().min(MESSAGE_BYTES_MAX)];
        let said = String::from_utf8_lossy(shown);
        let (status, place) = (answer.status, self.place.shown());
        io::Error::other(format!("{place} does not {doing}: {status} {said}"))
    }

    /// Makes a call, and is not ended by an interrupt: what it changes is known to have happened.
    fn call<'a>(
        &self,
        method: Method,
        action: &impl S3Action<'a>,
        headers: &[(&str, String)],
        body: Bytes,
    ) -> io::Result<StorageAnswer> {
        self.runtime.block_on(self.try_often(method, action, headers, body))
    }

    /// Makes a call that moves a part, and gives it up when it is interrupted.
    fn call_for_part<'a>(
        &self,
        method: Method,
        action: &impl S3Action<'a>,
        headers: &[(&str, String)],
        body: Bytes,
    ) -> io::Result<StorageAnswer> {
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = self.interrupt.turned() => Err(io::Error::other("interrupted")),
                answer = self.try_often(method, action, headers, body) => answer,
            }
        })
    }

    /// Signs a request and sends it, again if it has no answer or the storage is busy.
    async fn try_often<'a>(
        &self,
        method: Method,
        action: &impl S3Action<'a>,
        headers: &[(&str, String)],
        body: Bytes,
    ) -> io::Result<StorageAnswer> {
        let url = action.sign(SIGNED_FOR);
        // This clock goes on while the machine sleeps.
        let (began, mut tries) = (SystemTime::now(), 1);
        loop {
            let tried = self.try_send(&method, url.as_str(), headers, body.clone());
            let tried = timeout(ANSWERED_WITHIN, tried).await;
            let tried = tried.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            let again = match &tried {
                Ok(answer) => is_busy(answer.status),
                Err(_) => true,
            };
            let is_late = began.elapsed().unwrap_or_default() >= TRIED_AGAIN_WITHIN;
            if !again || is_late || tries == TRIES {
                return tried;
            }
            sleep(FIRST_WAIT * (1 << (tries - 1))).await;
            tries += 1;
        }
    }

    async fn try_send(
        &self,
        method: &Method,
        url: &str,
        headers: &[(&str, String)],
        body: Bytes,
    ) -> io::Result<StorageAnswer> {
        let kept = self.connection.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut sender = match kept.filter(|kept| !kept.is_closed()) {
            Some(kept) => kept,
            None => connected(&self.place.options).await?,
        };
        // The host and what is behind it, as they were signed.
        let place = url.split_once("://").map_or(url, |(_, place)| place);
        let (host, _) = place.split_once('/').unwrap_or((place, ""));
        let target = &place[host.len()..];
        let mut request = Request::builder().method(method).uri(target).header(HOST, host);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let request = request.body(Full::new(body)).map_err(io::Error::other)?;
        sender.ready().await.map_err(io::Error::other)?;
        let response = sender.send_request(request).await.map_err(io::Error::other)?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(io::Error::other)?.to_bytes();
        *self.connection.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        Ok(StorageAnswer { status: parts.status, headers: parts.headers, body })
    }
}

fn is_busy(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS
        || status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED
}

fn tag_of(answer: &StorageAnswer) -> io::Result<String> {
    let tag = answer.headers.get(ETAG).and_then(|tag| tag.to_str().ok());
    let tag = tag.ok_or_else(|| io::Error::other("the storage gives no tag of what it writes"))?;
    Ok(tag.to_owned())
}

/// Tells whether an answer says that the object is not there, and not its bucket.
fn is_missing(body: &[u8]) -> bool {
    body.windows(9).any(|part| part == b"NoSuchKey")
}

async fn connected(options: &RemoteOptions) -> io::Result<SendRequest<Full<Bytes>>> {
    let stream = dial_http1(options).await.map_err(io::Error::other)?;
    let begun = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (sender, connection) = begun.map_err(io::Error::other)?;
    tokio::spawn(connection);
    Ok(sender)
}
