//! The listener: accepts connections, bounds what each may take, and ends in time.
//!
//! Whoever can reach the address may open connections without a token, so their number, the time of
//! a request's head and the time that an answer may wait for its reader are limited.
//! Invariant: after `stop` it returns within [`STOP_TIMEOUT`], whatever the connections do.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Sleep, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A head is sent in one piece; this also ends a connection on which nothing is asked.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// An answer whose reader takes nothing for so long is given up.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// What is being answered when the daemon ends may take so long.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of a request's head, and of what is read ahead: a browser sends 1 KiB.
const MAX_HEAD: usize = 16 * 1024;

/// A browser sends some 20.
const MAX_HEADERS: usize = 64;

/// Until accepting is tried again when the system has no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Bounds of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// At a time; more wait in the system's queue.
    pub connections: usize,
    /// From the first byte that could be sent to the end of a request's head.
    pub head: Duration,
    /// Without a byte of an answer being taken.
    pub write: Duration,
}

impl Limits {
    /// The usual times, with so many connections.
    #[must_use]
    pub fn of(connections: usize) -> Self {
        Self { connections, head: HEAD_TIMEOUT, write: WRITE_TIMEOUT }
    }
}

/// Answers HTTP/1 until `stop`, then finishes what is being answered, as far as there is time.
///
/// # Errors
/// Never by a connection's fault; the type is what a server's task returns.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    stop: CancellationToken,
) -> io::Result<()> {
    let free = Arc::new(Semaphore::new(limits.connections));
    let tasks = TaskTracker::new();
    let cut = CancellationToken::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listener, &free) => accepted,
        };
        let Some((stream, place)) = accepted else { continue };
        let connection = connection(stream, router.clone(), limits, stop.clone());
        let cut = cut.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = cut.cancelled() => {}
                () = connection => {}
            }
            drop(place);
        });
    }
    tasks.close();
    if timeout(STOP_TIMEOUT, tasks.wait()).await.is_err() {
        cut.cancel();
    }
    Ok(())
}

async fn accept(
    listener: &TcpListener,
    free: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    // A place first: what is not accepted takes no descriptor of ours.
    let place = Arc::clone(free).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => {
            // A page is a few packets; waiting to fill one makes it slower.
            let _ = stream.set_nodelay(true);
            Some((stream, place))
        }
        Err(error) => {
            tracing::debug!(%error, "a connection could not be accepted");
            sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

async fn connection(stream: TcpStream, router: Router, limits: Limits, stop: CancellationToken) {
    let stream = Impatient { stream, limit: limits.write, waiting: None };
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD);
    let serving = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(serving);
    // How a connection ends is its other side's business.
    tokio::select! {
        _ = serving.as_mut() => {}
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            let _ = serving.await;
        }
    }
}

/// A connection that is given up when its reader takes nothing for too long.
struct Impatient {
    stream: TcpStream,
    limit: Duration,
    /// Runs while a write waits.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl AsyncRead for Impatient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Impatient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write(cx, buf);
        if done.is_ready() {
            self.waiting = None;
            return done;
        }
        let limit = self.limit;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(waiting.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
