//! A small HTTP/1.1 server for this module's tests. It can also send what no well-behaved server would.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

/// What is written, and what happens to the connection afterwards.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub bytes: Vec<u8>,
    pub then: Then,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Then {
    Close,
    /// Sends nothing more and stays open.
    Stall,
    /// Sends zeros as long as the client reads.
    Endless,
    /// Sends a byte now and then, often enough to avoid any idle timeout.
    Drip,
}

pub(super) fn reply(status: &str, headers: &[&str], body: &str) -> Reply {
    let mut head = vec![format!("HTTP/1.1 {status}"), format!("Content-Length: {}", body.len())];
    head.extend(headers.iter().map(|h| (*h).to_owned()));
    Reply { bytes: format!("{}\r\nConnection: close\r\n\r\n{body}", head.join("\r\n")).into_bytes(), then: Then::Close }
}

/// `head` and `body` as they are, without an added length.
pub(super) fn raw(head: &[&str], body: &str, then: Then) -> Reply {
    Reply { bytes: format!("{}\r\n\r\n{body}", head.join("\r\n")).into_bytes(), then }
}

/// Runs until dropped.
pub(super) struct Server {
    pub port: u16,
    pub requests: Arc<AtomicUsize>,
    _task: AbortOnDropHandle<()>,
}

impl Server {
    /// `answer` gets each request's head as it was sent.
    pub(super) async fn start<F, R>(answer: F) -> Self
    where
        F: Fn(String) -> R + Send + Sync + 'static,
        R: Future<Output = Reply> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (answer, requests) = (Arc::new(answer), Arc::new(AtomicUsize::new(0)));
        let counted = requests.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, counted) = (answer.clone(), counted.clone());
                tokio::spawn(async move {
                    // In many tests the client hangs up.
                    let _ = Self::serve(stream, &*answer, &counted).await;
                });
            }
        });
        Self { port, requests, _task: AbortOnDropHandle::new(task) }
    }

    async fn serve<R: Future<Output = Reply>>(
        mut stream: TcpStream,
        answer: &impl Fn(String) -> R,
        counted: &AtomicUsize,
    ) -> std::io::Result<()> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        counted.fetch_add(1, Ordering::SeqCst);
        let reply = answer(String::from_utf8_lossy(&head).into_owned()).await;
        stream.write_all(&reply.bytes).await?;
        match reply.then {
            Then::Close => stream.shutdown().await,
            // Ends when the client hangs up.
            Then::Stall => stream.read_u8().await.map(drop),
            Then::Endless => loop {
                stream.write_all(&[0; 4096]).await?;
            },
            Then::Drip => loop {
                stream.write_all(b"x").await?;
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            },
        }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub(super) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}
