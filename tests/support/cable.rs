//! A TCP cable between two programs, which a test can cut.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Connections to it lead to its far end. While it is cut, nothing passes and
/// nobody is told, as when a network between two hosts drops all packets.
#[derive(Debug)]
pub struct Cable {
    address: SocketAddr,
    is_cut: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Cable {
    /// From a port of its own to `far`, which need not listen yet.
    pub async fn to(far: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let (is_cut, sees_cut) = watch::channel(false);
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(connect(near, far, sees_cut.clone()));
            }
        });
        Self {
            address,
            is_cut,
            task,
        }
    }

    /// Its near end.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on nothing passes.
    pub fn cut(&self) {
        self.is_cut.send_replace(true);
    }

    /// Everything passes again, what was held up first.
    pub fn mend(&self) {
        self.is_cut.send_replace(false);
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn connect(near: TcpStream, far: SocketAddr, mut sees_cut: watch::Receiver<bool>) {
    until_mended(&mut sees_cut).await;
    let Ok(far) = TcpStream::connect(far).await else {
        return;
    };
    let ((near_reads, near_writes), (far_reads, far_writes)) =
        (near.into_split(), far.into_split());
    // Either side's end ends both.
    tokio::select! {
        () = carry(near_reads, far_writes, sees_cut.clone()) => {}
        () = carry(far_reads, near_writes, sees_cut) => {}
    }
}

async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut sees_cut: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        until_mended(&mut sees_cut).await;
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
    until_mended(&mut sees_cut).await;
}

async fn until_mended(sees_cut: &mut watch::Receiver<bool>) {
    // Without a sender the test is over.
    let _ = sees_cut.wait_for(|is_cut| !is_cut).await;
}
