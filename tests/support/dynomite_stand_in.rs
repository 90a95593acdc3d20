//! A stand-in for Dynomite: it forwards to a Redis the commands that Dynomite understands, and
//! closes the connection on any other command, as Dynomite does.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Commands that Dynomite forwards unchanged.
const PLAIN: [&str; 23] = [
    "GET", "SETEX", "PSETEX", "MGET", "DEL", "EXISTS", "TTL", "PTTL", "PERSIST", "SADD", "SREM",
    "SMEMBERS", "SUNION", "HSET", "HGET", "HKEYS", "HGETALL", "HDEL", "ZADD", "ZRANGE", "PING",
    "INFO", "SCAN",
];

/// The listener, and the commands it has seen.
#[derive(Debug)]
pub struct DynomiteStandIn {
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Seen {
    passed: usize,
    refused: Vec<String>,
}

impl DynomiteStandIn {
    /// Starts a stand-in in front of `redis`.
    pub async fn start(redis: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let seen = Arc::<Mutex<Seen>>::default();
        let sees = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, redis, Arc::clone(&sees)));
            }
        });
        Self {
            address,
            seen,
            task,
        }
    }

    /// For `[redis] url`.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Checks that there were commands, and that Dynomite would accept all of them.
    pub fn assert_nothing_refused(&self) {
        let seen = self.seen.lock();
        assert!(seen.passed > 0, "nothing came");
        assert!(seen.refused.is_empty(), "refused {:?}", seen.refused);
    }

    /// The commands on which it closed connections.
    pub fn refused(&self) -> Vec<String> {
        self.seen.lock().refused.clone()
    }
}

impl Drop for DynomiteStandIn {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(client: TcpStream, redis: SocketAddr, seen: Arc<Mutex<Seen>>) {
    let Ok(redis) = TcpStream::connect(redis).await else {
        return;
    };
    let ((from_client, mut to_client), (mut from_redis, to_redis)) =
        (client.into_split(), redis.into_split());
    tokio::select! {
        _ = tokio::io::copy(&mut from_redis, &mut to_client) => {}
        _ = pass(BufReader::new(from_client), to_redis, &seen) => {}
    }
}

async fn pass(
    mut from: BufReader<tokio::net::tcp::OwnedReadHalf>,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    seen: &Mutex<Seen>,
) -> std::io::Result<()> {
    while let Some((words, raw)) = read_request(&mut from).await? {
        {
            let mut seen = seen.lock();
            if !understands(&words) {
                seen.refused.push(words.join(" "));
                return Ok(());
            }
            seen.passed += 1;
        }
        to.write_all(&raw).await?;
    }
    Ok(())
}

/// Reads a request; returns its words and its raw bytes.
async fn read_request(
    from: &mut BufReader<tokio::net::tcp::OwnedReadHalf>,
) -> std::io::Result<Option<(Vec<String>, Vec<u8>)>> {
    let mut raw = Vec::new();
    let Some(count) = read_number(from, b'*', &mut raw).await? else {
        return Ok(None);
    };
    let mut words = Vec::new();
    for _ in 0..count {
        let Some(length) = read_number(from, b'$', &mut raw).await? else {
            return Ok(None);
        };
        let start = raw.len();
        raw.resize(start + length + 2, 0);
        from.read_exact(&mut raw[start..]).await?;
        words.push(String::from_utf8_lossy(&raw[start..start + length]).into_owned());
    }
    Ok(Some((words, raw)))
}

/// Reads `*3` or `$5`; `None` at the end and for anything else.
async fn read_number(
    from: &mut BufReader<tokio::net::tcp::OwnedReadHalf>,
    sign: u8,
    raw: &mut Vec<u8>,
) -> std::io::Result<Option<usize>> {
    let mut line = Vec::new();
    from.read_until(b'\n', &mut line).await?;
    raw.extend_from_slice(&line);
    let number = line
        .strip_prefix(&[sign])
        .and_then(|line| line.strip_suffix(b"\r\n"))
        .and_then(|digits| std::str::from_utf8(digits).ok())
        .and_then(|digits| digits.parse().ok());
    Ok(number)
}

fn understands(words: &[String]) -> bool {
    let words: Vec<String> = words.iter().map(|word| word.to_ascii_uppercase()).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["SET", _, _] | ["SET", _, _, "NX"] | ["SET", _, _, "EX", _] => true,
        ["SET", ..] => false,
        // The form without GT, NX and similar options.
        ["EXPIRE" | "PEXPIRE", rest @ ..] => rest.len() == 2,
        ["EVAL", _, keys, rest @ ..] => keys
            .parse()
            .is_ok_and(|keys: usize| (1..=rest.len()).contains(&keys)),
        [command, ..] => PLAIN.contains(command),
        [] => false,
    }
}

#[test]
fn it_refuses_what_dynomite_refuses() {
    let understood = |request: &str| {
        let words: Vec<String> = request.split(' ').map(str::to_owned).collect();
        understands(&words)
    };
    for request in [
        "GET a",
        "SET a b EX 5",
        "SET a b NX",
        "EXPIRE a 5",
        "EVAL s 1 a b",
        "sunion a b",
        "PING",
    ] {
        assert!(understood(request), "{request}");
    }
    for request in [
        "HELLO 3",
        "CLIENT SETINFO LIB-NAME x",
        "SELECT 1",
        "AUTH x",
        "MULTI",
        "SCRIPT LOAD x",
        "EVALSHA x 1 a",
        "EVAL s 0 a",
        "GETEX a",
        "UNLINK a",
        "EXPIRE a 5 GT",
        "SUBSCRIBE a",
        "SET a b GET",
    ] {
        assert!(!understood(request), "{request}");
    }
}
