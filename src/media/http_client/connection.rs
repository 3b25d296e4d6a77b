//! Connections of the HTTP client: opened within a deadline, to checked addresses, and read through a [`Tidier`].

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use std::{fmt, io};

use futures::future::BoxFuture;
use http::Uri;
use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service;

use super::answer::Tidier;
use crate::media::resolver::CheckedResolver;

type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;
pub(in crate::media) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Bytes read from a socket at once.
const READ_BYTES: usize = 16 * 1024;

/// No connection within `media.connect_timeout_ms`, TLS included.
#[derive(Debug, thiserror::Error)]
#[error("timed out")]
pub(in crate::media) struct ConnectTimeout;

/// The server had closed a pooled connection when it was used again.
#[derive(Debug, thiserror::Error)]
#[error("the server closed the connection that was kept")]
pub(super) struct Stale;

#[derive(Clone)]
pub(super) struct Connector {
    pub(super) inner: HttpsConnector<HttpConnector<CheckedResolver>>,
    pub(super) timeout: Duration,
}

impl Service<Uri> for Connector {
    type Response = Tidied;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Tidied, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let (connecting, timeout) = (self.inner.call(to), self.timeout);
        Box::pin(async move {
            let stream = tokio::time::timeout(timeout, connecting).await.map_err(|_| ConnectTimeout)??;
            Ok(Tidied::new(stream))
        })
    }
}

/// A connection with repaired answers, unless it speaks HTTP/2, which has its own framing.
pub(super) struct Tidied {
    stream: Stream,
    tidier: Option<Tidier>,
    read: Box<[u8]>,
}

impl Tidied {
    fn new(stream: Stream) -> Self {
        let tidier = (!stream.connected().is_negotiated_h2()).then(Tidier::default);
        let read = if tidier.is_some() { vec![0; READ_BYTES] } else { Vec::new() };
        Self { stream, tidier, read: read.into() }
    }

    fn sent(&mut self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let Some(tidier) = &mut self.tidier else { return result };
        if matches!(result, Poll::Ready(Ok(1..) | Err(_))) {
            tidier.sent();
        }
        match result {
            Poll::Ready(Err(_)) if tidier.is_reused() => Poll::Ready(Err(io::Error::other(Stale))),
            other => other,
        }
    }
}

impl fmt::Debug for Tidied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tidied").field("tidier", &self.tidier).finish_non_exhaustive()
    }
}

impl Read for Tidied {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, tidier, read } = &mut *self;
        let Some(tidier) = tidier else { return Pin::new(stream).poll_read(context, buffer) };
        loop {
            let ready = tidier.ready();
            if !ready.is_empty() {
                let taken = ready.len().min(buffer.remaining());
                buffer.put_slice(&ready[..taken]);
                tidier.take(taken);
                return Poll::Ready(Ok(()));
            }
            if tidier.is_over() {
                return Poll::Ready(Ok(()));
            }
            let mut came = ReadBuf::new(read);
            let result = ready!(Pin::new(&mut *stream).poll_read(context, came.unfilled()));
            if tidier.is_reused() && (result.is_err() || came.filled().is_empty()) {
                return Poll::Ready(Err(io::Error::other(Stale)));
            }
            result?;
            match came.filled() {
                [] => tidier.end(),
                bytes => tidier.feed(bytes).map_err(io::Error::other)?,
            }
        }
    }
}

impl Write for Tidied {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.sent(result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.sent(result)
    }
}

impl Connection for Tidied {
    fn connected(&self) -> Connected {
        self.stream.connected()
    }
}
