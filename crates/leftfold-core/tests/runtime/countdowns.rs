//! Light timers.

use std::time::Duration;

use leftfold_core::runtime::Countdowns;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_hundred_thousand_light_timers_are_restarted_and_expire_each_once() {
    const KEYS: u32 = 100_000;
    let countdowns = Countdowns::new();
    for round in 0..5 {
        for key in 0..KEYS {
            countdowns.restart(key, 10 * SECOND);
        }
        tokio::time::advance(SECOND * round).await;
    }
    for key in (0..KEYS).step_by(2) {
        assert!(countdowns.cancel(&key));
    }
    assert!(!countdowns.cancel(&0));
    assert_eq!(countdowns.running(), KEYS as usize / 2);
    let mut expired = Vec::new();
    for _ in 0..KEYS / 2 {
        expired.push(countdowns.expired().await);
    }
    expired.sort_unstable();
    assert_eq!(expired, (1..KEYS).step_by(2).collect::<Vec<_>>());
    assert_eq!(countdowns.running(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_light_timer_may_be_longer_than_any_clock() {
    let countdowns = Countdowns::new();
    countdowns.restart("never", Duration::MAX);
    countdowns.restart("soon", SECOND);
    assert_eq!(countdowns.expired().await, "soon");
    assert_eq!(countdowns.running(), 1);
}
