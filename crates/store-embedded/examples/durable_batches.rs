//! Durable batches a second on the disk that holds a folder: `durable_batches FOLDER [SECONDS]`.
//!
//! One operation writes four rows of about 40 bytes a key and 60 bytes a value, keys at random out of a million.

use std::{path::Path, time::Duration};

use sidenote_store_embedded::engine::{Change, Engine, Settings};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("usage: durable_batches FOLDER [SECONDS]")?;
    let seconds = arguments.next().map_or(Ok(5), |seconds| seconds.parse())?;
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for operations in [1, 8, 64, 256] {
        let engine = Engine::open(&Path::new(&folder).join(operations.to_string()), &Settings::default())?;
        let (mut batches, mut longest) = (0_u32, Duration::ZERO);
        let begun = now();
        let elapsed = loop {
            let before = now();
            let changes = (0..operations).flat_map(|_| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let message = random % 1_000_000;
                (0..4).map(move |row| Change::Put {
                    key: format!("\u{1}app/1400000001/group/{message:012}/{row}").as_bytes().into(),
                    value: format!("{{\"value\":{random:050},\"row\":{row}}}").as_bytes().into(),
                })
            });
            engine.commit(changes)?;
            batches += 1;
            longest = longest.max(before.elapsed());
            if begun.elapsed() > Duration::from_secs(seconds) {
                break begun.elapsed().as_secs_f64();
            }
        };
        let rate = f64::from(batches) / elapsed;
        println!(
            "batch {operations:>3}: {rate:>6.0} batches/s, {:>7.0} operations/s, longest commit {:>4} ms, {:>4} MiB on disk",
            rate * f64::from(operations),
            longest.as_millis(),
            engine.disk_bytes()? >> 20,
        );
        drop(engine);
        let begun = now();
        drop(Engine::open(&Path::new(&folder).join(operations.to_string()), &Settings::default())?);
        println!("           reopened in {} ms", begun.elapsed().as_millis());
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a measurement asks the real clock")]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}
