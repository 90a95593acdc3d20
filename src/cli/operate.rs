//! `strait reload` and `strait drain`: commands to the running gateway, through its
//! admin server.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use strait::config::Loaded;
use tokio::net::TcpStream;
use tokio::time::{interval, timeout};

/// Time in which the gateway must answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Time in which the gateway must have drained; it limits each step itself.
const DRAIN_LIMIT: Duration = Duration::from_secs(60);

/// Makes the gateway read its certificates and `[[peers]]` again.
pub fn reload(loaded: &Loaded) -> anyhow::Result<()> {
    let answer = in_runtime(post(admin(loaded)?, "reload"))?;
    print!("{answer}");
    Ok(())
}

/// Makes the gateway hand over its stanzas and end, and waits for the end.
pub fn drain(loaded: &Loaded) -> anyhow::Result<()> {
    let admin = admin(loaded)?;
    in_runtime(async {
        post(admin, "drain").await?;
        let ended = timeout(DRAIN_LIMIT, until_unreachable(admin)).await;
        ended.with_context(|| {
            format!("the gateway still runs after {DRAIN_LIMIT:?}; its log says what it waits for")
        })?;
        println!("drained");
        Ok(())
    })
}

fn admin(loaded: &Loaded) -> anyhow::Result<SocketAddr> {
    loaded.config.admin.listen.context(
        "admin.listen is not set, so the running gateway takes no commands; set it and restart \
         the gateway, or send the process SIGHUP (reload) or SIGTERM (drain)",
    )
}

fn in_runtime<T>(command: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.context("cannot start a runtime")?.block_on(command)
}

async fn post(admin: SocketAddr, command: &str) -> anyhow::Result<String> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(ANSWER_LIMIT)
        .build()?;
    let sent = client
        .post(format!("http://{admin}/api/{command}"))
        .send()
        .await;
    let answer = sent.with_context(|| format!("no gateway answers at {admin} (admin.listen)"))?;
    let status = answer.status();
    let text = answer.text().await.unwrap_or_default();
    if !status.is_success() {
        bail!("{}", text.trim_end());
    }
    Ok(text)
}

async fn until_unreachable(admin: SocketAddr) {
    let mut ticks = interval(Duration::from_millis(100));
    while TcpStream::connect(admin).await.is_ok() {
        ticks.tick().await;
    }
}
