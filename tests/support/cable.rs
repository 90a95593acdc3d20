//! A TCP cable between two programs, which a test can cut.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// A listener that forwards connections to its far end, unless the cable is cut.
#[derive(Debug)]
pub struct Cable {
    address: SocketAddr,
    state: watch::Sender<State>,
    task: JoinHandle<()>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Whole,
    Cut,
    Severed,
}

impl Cable {
    /// Creates a cable from its own port to `far`, which need not listen yet.
    pub async fn to(far: SocketAddr) -> Self {
        Self::slow(far, Duration::ZERO).await
    }

    /// Creates a cable through which bytes take `latency` each way.
    pub async fn slow(far: SocketAddr, latency: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let (state, sees_state) = watch::channel(State::Whole);
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(connect(near, far, latency, sees_state.clone()));
            }
        });
        Self {
            address,
            state,
            task,
        }
    }

    /// The address of its near end.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops all traffic without notifying either side, as when a network between two hosts drops
    /// all packets.
    pub fn cut(&self) {
        self.state.send_replace(State::Cut);
    }

    /// Closes all connections and refuses new ones, so that both sides notice, as when a firewall
    /// rejects.
    pub fn sever(&self) {
        self.state.send_replace(State::Severed);
    }

    /// Lets everything pass again, the delayed bytes first.
    pub fn mend(&self) {
        self.state.send_replace(State::Whole);
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn connect(
    near: TcpStream,
    far: SocketAddr,
    latency: Duration,
    mut sees_state: watch::Receiver<State>,
) {
    let mut sees_end = sees_state.clone();
    let carry_all = async {
        until_whole(&mut sees_state).await;
        let Ok(far) = TcpStream::connect(far).await else {
            return;
        };
        let ((near_reads, near_writes), (far_reads, far_writes)) =
            (near.into_split(), far.into_split());
        // The end of either side ends both.
        tokio::select! {
            () = carry(near_reads, far_writes, latency, sees_state.clone()) => {}
            () = carry(far_reads, near_writes, latency, sees_state) => {}
        }
    };
    tokio::select! {
        () = carry_all => {}
        _ = sees_end.wait_for(|state| *state == State::Severed) => {}
    }
}

async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    latency: Duration,
    mut sees_state: watch::Receiver<State>,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if !latency.is_zero() {
            sleep(latency).await;
        }
        until_whole(&mut sees_state).await;
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
    until_whole(&mut sees_state).await;
}

async fn until_whole(sees_state: &mut watch::Receiver<State>) {
    // Without a sender the test has ended.
    let _ = sees_state.wait_for(|state| *state == State::Whole).await;
}
