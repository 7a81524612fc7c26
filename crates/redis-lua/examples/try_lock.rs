//! A lock in five lines of Lua, taken by two and given to one: `cargo run -p redis-lua --example try_lock`.

use redis_lua::{Client, Name, Script};

static TRY_LOCK: Script = Script::new("try_lock", include_str!("try_lock.lua"));

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "redis://127.0.0.1:6379".to_owned());
    let client = Client::connect(url).await?;
    let name = Name::new("orders/42")?;
    for owner in ["alice", "bob"] {
        let taken: bool = TRY_LOCK.keys([&name]).arg(owner).arg(2_000).run(&client).await?;
        println!("{owner} {} {name}", if taken { "has" } else { "does not get" });
    }
    Ok(())
}
