//! The port: open, or closed for a while so that connections are refused.
//!
//! It hands connections to axum and cuts them when it closes; what is said on them is
//! `routes.rs`'s business.
//! Invariant: while the door is closed nothing listens on the port and no earlier connection is
//! left alive.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::behaviour::Refuse;

/// Connections that wait for the accept loop; more than any test has in flight.
const BACKLOG: u32 = 1024;

/// Answers that are on their way when the door closes (the control endpoint's own) get so long.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// Before the port is tried again, should somebody else hold it.
const BIND_AGAIN: Duration = Duration::from_millis(50);

/// When the door is closed, and which order this is (so that one can wait until it is obeyed).
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) refuse: Option<Refuse>,
    pub(super) since: Instant,
    pub(super) number: u64,
}

enum Phase {
    Open { until: Option<Instant> },
    Closed { until: Option<Instant> },
}

impl Plan {
    fn phase(&self, now: Instant) -> Phase {
        let Some(refuse) = &self.refuse else { return Phase::Open { until: None } };
        let closes = self.since + refuse.after;
        let opens = refuse.lasts.map(|lasts| closes + lasts);
        if now < closes {
            Phase::Open { until: Some(closes) }
        } else if opens.is_some_and(|opens| now >= opens) {
            Phase::Open { until: None }
        } else {
            Phase::Closed { until: opens }
        }
    }
}

/// A listener on loopback that opens and closes by plan.
pub(super) struct SwitchableListener {
    address: SocketAddr,
    listener: Option<TcpListener>,
    plan: watch::Receiver<Plan>,
    obeyed: watch::Sender<u64>,
    cut: CancellationToken,
    stop: CancellationToken,
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    // The port must be had again while connections of before are in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

impl SwitchableListener {
    /// Binds the port; `obeyed` tells the number of the last plan that is in force.
    pub(super) fn open(
        port: u16,
        plan: watch::Receiver<Plan>,
        obeyed: watch::Sender<u64>,
        stop: CancellationToken,
    ) -> io::Result<Self> {
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], port)))?;
        let address = listener.local_addr()?;
        let cut = stop.child_token();
        Ok(Self { address, listener: Some(listener), plan, obeyed, cut, stop })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    async fn changed_or(&mut self, until: Option<Instant>) {
        let wait = async {
            match until {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // The sender lives as long as the stand-in; without it there is no new plan.
            Ok(()) = self.plan.changed() => {}
            () = wait => {}
            () = self.stop.cancelled() => std::future::pending().await,
        }
    }
}

impl Listener for SwitchableListener {
    type Io = Cuttable;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Cuttable, SocketAddr) {
        loop {
            let plan = self.plan.borrow_and_update().clone();
            match plan.phase(Instant::now()) {
                Phase::Closed { until } => {
                    if self.listener.take().is_some() {
                        tokio::time::sleep(LAST_WORDS).await;
                        self.cut.cancel();
                        self.cut = self.stop.child_token();
                    }
                    self.obeyed.send_replace(plan.number);
                    self.changed_or(until).await;
                }
                Phase::Open { until } => {
                    let listener = match self.listener.take() {
                        Some(listener) => listener,
                        None => match bind(self.address) {
                            Ok(listener) => listener,
                            Err(_) => {
                                tokio::time::sleep(BIND_AGAIN).await;
                                continue;
                            }
                        },
                    };
                    self.obeyed.send_replace(plan.number);
                    let cut = self.cut.clone();
                    let listener = &*self.listener.insert(listener);
                    let mut plan = self.plan.clone();
                    let wait = async {
                        match until {
                            Some(until) => tokio::time::sleep_until(until).await,
                            None => std::future::pending().await,
                        }
                    };
                    tokio::select! {
                        Ok((stream, from)) = listener.accept() => {
                            return (Cuttable::new(stream, cut), from);
                        }
                        Ok(()) = plan.changed() => {}
                        () = wait => {}
                    }
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// A connection that ends with an error when the door closes.
pub(super) struct Cuttable {
    stream: TcpStream,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Cuttable {
    fn new(stream: TcpStream, cut: CancellationToken) -> Self {
        // Small answers must not wait for the client's acknowledgement; a failure costs only time.
        let _ = stream.set_nodelay(true);
        Self { stream, cut: Box::pin(cut.cancelled_owned()) }
    }

    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.cut.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::ConnectionReset.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Cuttable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Cuttable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
