//! The scheduler's tick: real, and by hand.

use std::sync::Arc;
use std::time::Duration;

use lookout::clock::SystemClock;
use lookout::schedule::ticker::{Ticker, Woken};
use tokio::time::Instant;

#[tokio::test(start_paused = true)]
async fn a_waiter_wakes_at_the_tick_or_at_its_own_time_whichever_is_first() {
    let (mut ticker, manual) = Ticker::manual();
    let start = Instant::now();
    assert_eq!(ticker.tick(Some(start + Duration::from_millis(250))).await, Woken::Due);
    assert_eq!(start.elapsed(), Duration::from_millis(250));
    manual.tick();
    assert_eq!(ticker.tick(Some(start + Duration::from_secs(2))).await, Woken::Tick);
    assert_eq!(start.elapsed(), Duration::from_millis(250));
    assert_eq!(ticker.tick(Some(start)).await, Woken::Due, "a time that has passed");
}

#[tokio::test(start_paused = true)]
async fn doubled_ticks_wake_once_and_every_clone_gets_each_tick() {
    let (mut ticker, manual) = Ticker::manual();
    let mut other = ticker.clone();
    tokio::time::advance(Duration::from_secs(1)).await;
    manual.tick();
    manual.tick();
    assert_eq!(ticker.tick(None).await, Woken::Tick);
    assert_eq!(ticker.tick(None).await, Woken::Silence);
    assert_eq!(other.tick(None).await, Woken::Tick);
}

#[tokio::test(start_paused = true)]
async fn a_dead_scheduler_is_noticed_and_delays_nothing() {
    let (mut ticker, manual) = Ticker::manual();
    assert_eq!(ticker.last_tick(), None);
    drop(manual);
    let start = Instant::now();
    assert_eq!(ticker.tick(Some(start + Duration::from_secs(1))).await, Woken::Due);
    assert!(!ticker.is_dead());
    assert_eq!(ticker.tick(Some(start + Duration::from_secs(3600))).await, Woken::Silence);
    assert_eq!(start.elapsed(), Duration::from_secs(6));
    assert!(ticker.is_dead());
}

#[tokio::test]
async fn the_real_scheduler_ticks_about_every_second() {
    let mut ticker = Ticker::start(Arc::new(SystemClock)).await.unwrap();
    for _ in 0..2 {
        assert_eq!(ticker.tick(None).await, Woken::Tick);
    }
    assert!(ticker.last_tick().is_some() && !ticker.is_dead());
    assert!(ticker.pulse().borrow().n_steps >= 2);
}
