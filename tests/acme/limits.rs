//! RFC 8555 section 6.6: rate limits, and what a whole plant sees that is switched on.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use crate::support::raw::{self, Answer, csr};
use crate::support::{Ca, Client, Wish};

/// 429 with everything that belongs to it; the seconds of Retry-After.
fn limited(ca: &Ca, answer: &Answer) -> u64 {
    assert_eq!((answer.status, answer.problem().as_str()), (429, "rateLimited"), "{answer:?}");
    let help = format!("<{}/#limits>;rel=\"help\"", ca.base);
    assert!(answer.links().contains(&help.as_str()), "{answer:?}");
    assert!(answer.header("replay-nonce").is_some(), "{answer:?}");
    answer.header("retry-after").unwrap().parse().unwrap()
}

async fn enrol(client: &mut Client, ca: &Ca, name: &str) {
    let (_, order) = client.ready(ca, &[name]).await;
    let finalize = order["finalize"].as_str().unwrap().to_owned();
    let csr = csr(&[name.split_once(':').unwrap().1]);
    let done = client.post(&finalize, &json!({ "csr": csr })).await;
    assert_eq!(done.json()["status"], "valid", "{done:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_an_address_and_a_name_tree_have_so_many_orders_an_hour() {
    for limit in ["account", "address", "tree"] {
        let mut wish = Wish::new();
        let limits = &mut wish.settings.limits;
        match limit {
            "account" => limits.orders_per_account = 2,
            "address" => limits.orders_per_address = 2,
            _ => limits.orders_per_name_tree = 2,
        }
        let ca = Ca::with(wish).await;
        let (mut alice, mut bob) = (ca.registered().await, ca.registered().await);
        for name in ["dns:a.line1.test", "dns:b.line1.test"] {
            assert_eq!(alice.order(&[name]).await.status, 201, "{limit}");
        }
        // Whatever the limit is, this order exceeds it.
        let wait = limited(&ca, &alice.order(&["dns:c.line1.test"]).await);
        assert!((3000..=3600).contains(&wait), "{limit}: {wait}");
        // Another account, in another tree: only the address is the same.
        let status = bob.order(&["dns:a.line2.test"]).await.status;
        assert_eq!(status, if limit == "address" { 429 } else { 201 }, "{limit}");
        let status = bob.order(&["dns:b.line1.test"]).await.status;
        assert_eq!(status, if limit == "account" { 201 } else { 429 }, "{limit}");
        let metrics = raw::plain(ca.addresses.metrics[0], "/metrics", &[]).await;
        let line = format!(
            "chancery_rate_limited_total{{limit=\"orders-per-{}\"}}",
            match limit {
                "tree" => "name-tree",
                other => other,
            }
        );
        assert!(metrics.text().contains(&line), "{}", metrics.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_help_link_leads_to_the_limits() {
    let ca = Ca::start().await;
    let page = ca.client().await.get("/").await;
    assert_eq!(page.status, 200);
    assert!(page.text().contains("id=\"limits\""), "{page:?}");
    assert!(page.text().contains("3600 an hour"), "{page:?}");
    assert!(!page.text().contains("{{"), "{page:?}");
}

/// Also when its certificate has long expired, its order was swept, its account key is lost and the box was
/// restarted meanwhile: what makes it a renewal are its names.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_had_a_certificate_can_enrol_again() {
    let narrow = |wish: &mut Wish| {
        let limits = &mut wish.settings.limits;
        (limits.orders_per_address, limits.orders_per_name_tree) = (1, 1);
        limits.renewals_per_name_set = 2;
    };
    let mut wish = Wish::new();
    narrow(&mut wish);
    let first = Ca::with(wish).await;
    let mut device = first.registered().await;
    enrol(&mut device, &first, "dns:a.line1.test").await;
    limited(&first, &device.order(&["dns:b.line1.test"]).await);
    assert_eq!(device.order(&["dns:a.line1.test"]).await.status, 201);

    let mut wish = Wish::new();
    narrow(&mut wish);
    (wish.issuer, wish.store) = (first.issuer.clone(), first.store.clone());
    let second = Ca::with(wish).await;
    let mut stranger = second.registered().await;
    assert_eq!(stranger.order(&["dns:c.line1.test"]).await.status, 201);
    limited(&second, &stranger.order(&["dns:b.line1.test"]).await);
    limited(&second, &stranger.order(&["dns:a.line1.test", "dns:b.line1.test"]).await);
    let mut again = second.registered().await;
    enrol(&mut again, &second, "dns:a.line1.test").await;
    assert_eq!(again.order(&["dns:a.line1.test"]).await.status, 201);
    // Renewals without end are orders like all.
    limited(&second, &again.order(&["dns:a.line1.test"]).await);
    // But nobody can use up the device's own.
    let mut device = second.registered().await;
    assert_eq!(device.order(&["dns:a.line1.test"]).await.status, 201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_fails_to_prove_a_name_too_often_must_wait() {
    let mut wish = Wish::new();
    wish.settings.limits.failed_validations = 2;
    wish.validation.attempts = 1;
    let ca = Ca::with(wish).await;
    let (mut alice, mut bob) = (ca.registered().await, ca.registered().await);
    for _ in 0..2 {
        let order = alice.order(&["dns:a.test"]).await;
        let url = order.json()["authorizations"][0].as_str().unwrap().to_owned();
        let challenge = alice.challenge(&url).await;
        alice.post(challenge["url"].as_str().unwrap(), &json!({})).await;
        let authz = alice.poll_while(&url, &["pending"]).await;
        assert_eq!(authz.json()["status"], "invalid", "{authz:?}");
    }
    // Counted just after it is stored.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let refused = alice.order(&["dns:b.test", "dns:a.test"]).await;
    assert!((3000..=3600).contains(&limited(&ca, &refused)));
    assert_eq!(alice.order(&["dns:b.test"]).await.status, 201);
    assert_eq!(bob.order(&["dns:a.test"]).await.status, 201);
}

/// Does it until it is let in; the waits it was told of.
async fn until_admitted(
    ca: &Ca,
    client: &mut Client,
    name: Option<&str>,
    waits: &mut Vec<u64>,
) -> Answer {
    loop {
        let answer = match name {
            None => client.register().await,
            Some(name) => client.order(&[name]).await,
        };
        if answer.status != 429 {
            return answer;
        }
        let wait = limited(ca, &answer);
        waits.push(wait);
        tokio::time::sleep(Duration::from_secs(wait)).await;
    }
}

/// In small what `acme::admission` tests for a thousand: all come at once, each is told a moment of its own, keeps to
/// it, and has its certificate.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plant_that_is_switched_on_enrols_without_a_herd() {
    const DEVICES: usize = 30;
    let mut wish = Wish::new();
    let limits = &mut wish.settings.limits;
    (limits.admissions_per_second, limits.admission_burst) = (12, 4);
    limits.admission_patience_seconds = 0;
    let ca = Arc::new(Ca::with(wish).await);
    let mut tasks = Vec::new();
    for device in 0..DEVICES {
        let ca = ca.clone();
        tasks.push(tokio::spawn(async move {
            let mut client = ca.client().await;
            let (mut registering, mut ordering) = (Vec::new(), Vec::new());
            let answer = until_admitted(&ca, &mut client, None, &mut registering).await;
            assert_eq!(answer.status, 201, "{answer:?}");
            let name = format!("dns:d{device}.test");
            let order = until_admitted(&ca, &mut client, Some(&name), &mut ordering).await;
            assert_eq!(order.status, 201, "{order:?}");
            client.prove(&ca, &order).await;
            let csr = csr(&[&name[4..]]);
            let finalize = order.json()["finalize"].as_str().unwrap().to_owned();
            let done = client.post(&finalize, &json!({ "csr": csr })).await;
            assert_eq!(done.json()["status"], "valid", "{done:?}");
            // Who keeps to what it was told is not told to wait again.
            assert!(registering.len() <= 1 && ordering.len() <= 1, "{registering:?} {ordering:?}");
            registering.into_iter().chain(ordering).collect::<Vec<u64>>()
        }));
    }
    let mut waits = Vec::new();
    for task in tasks {
        waits.extend(task.await.unwrap());
    }
    assert!(waits.len() >= DEVICES / 2, "nobody had to wait: {waits:?}");
    let moments: BTreeSet<u64> = waits.iter().copied().collect();
    assert!(moments.len() >= 2, "all were told the same: {waits:?}");
    assert!(waits.iter().all(|wait| (1..=8).contains(wait)), "{waits:?}");
}

/// A client that does not know what 429 means is kept waiting, if its turn is soon.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_that_is_soon_is_waited_for() {
    let mut wish = Wish::new();
    let limits = &mut wish.settings.limits;
    (limits.admissions_per_second, limits.admission_burst) = (10, 1);
    limits.admission_patience_seconds = 5;
    let ca = Ca::with(wish).await;
    let begun = tokio::time::Instant::now();
    let mut client = ca.registered().await;
    for n in 0..5 {
        assert_eq!(client.order(&[&format!("dns:{n}.test")]).await.status, 201);
    }
    assert!(begun.elapsed() >= Duration::from_millis(400), "{:?}", begun.elapsed());
}
