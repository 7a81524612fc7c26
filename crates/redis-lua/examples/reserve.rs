//! A shop with ten lamps and three tables, and more orders than that. Each order gets all of its items or none, in one
//! step and without a lock; a reply that is lost is asked for again.
//!
//! `cargo run -p redis-lua --example reserve -- redis://127.0.0.1:6379/`

use redis_lua::{Client, Error, Name, Script, redis};

static RESERVE: Script = Script::new("reserve", include_str!("reserve.lua"));

struct Shop {
    client: Client,
    stock: Name,
    orders: Name,
}

impl Shop {
    /// Whether the order has its items.
    async fn reserve(&self, order: &str, items: &[(&str, u32)]) -> Result<bool, Error> {
        let mut attempts = 0;
        loop {
            let mut call = RESERVE.keys([&self.stock, &self.orders]).arg(order);
            for (item, count) in items {
                call = call.arg(*item).arg(*count);
            }
            match call.run(&self.client).await {
                // It may have been carried out: the script knows, so asking again does no harm.
                Err(error) if error.outcome_unknown() && attempts < 3 => attempts += 1,
                result => return result,
            }
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "redis://127.0.0.1:6379/".to_owned());
    // One hash tag: the two may meet in a script, on a cluster too.
    let (stock, orders) = (Name::new("{example-shop}:stock")?, Name::new("{example-shop}:orders")?);
    let shop = Shop { client: Client::connect(url).await?, stock, orders };
    shop.client.run::<()>(redis::cmd("DEL").arg(shop.stock.as_key()).arg(shop.orders.as_key())).await?;
    shop.client.run::<()>(redis::cmd("HSET").arg(shop.stock.as_key()).arg(&["lamp", "10", "table", "3"])).await?;

    for number in 1..=5 {
        let order = format!("order {number}");
        let reserved = shop.reserve(&order, &[("lamp", 2), ("table", 1)]).await?;
        println!("{order}: {}", if reserved { "reserved" } else { "not enough in stock, and nothing taken" });
    }
    let again = shop.reserve("order 1", &[("lamp", 2), ("table", 1)]).await?;
    let left: Vec<(String, u32)> = shop.client.run(redis::cmd("HGETALL").arg(shop.stock.as_key())).await?;
    println!("order 1 once more: {again}; left: {left:?}");
    Ok(())
}
