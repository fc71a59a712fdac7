//! RFC 8555 section 7.4, notBefore and notAfter, from the order to the certificate that the whole issuer makes: met to
//! the second, or refused.

use std::time::Duration;

use chancery::id::Timestamp;
use chancery::pki::profile::Profile;
use serde_json::json;

use crate::support::raw::{Answer, csr};
use crate::support::{Ca, Client, Wish};

const HOUR: Duration = Duration::from_secs(3600);

async fn order(client: &mut Client, dates: &[(&str, Timestamp)]) -> Answer {
    let mut payload = json!({ "identifiers": [{ "type": "dns", "value": "dated.test" }] });
    for (member, at) in dates {
        payload[*member] = json!(at.to_string());
    }
    client.post(&client.new_order_url(), &payload).await
}

/// Proves and finalizes an order; what finalize answers, and the order's URL.
async fn finalized(ca: &Ca, client: &mut Client, order: &Answer) -> (Answer, String) {
    assert_eq!(order.status, 201, "{order:?}");
    for authz in order.json()["authorizations"].as_array().unwrap() {
        if client.post_as_get(authz.as_str().unwrap()).await.json()["status"] == "pending" {
            client.prove_authz(ca, authz.as_str().unwrap()).await;
        }
    }
    let finalize = order.json()["finalize"].as_str().unwrap().to_owned();
    let answer = client.post(&finalize, &json!({ "csr": csr(&["dated.test"]) })).await;
    (answer, order.header("location").unwrap().to_owned())
}

fn now(ca: &Ca) -> Timestamp {
    use chancery::env::Clock;
    ca.house.as_ref().unwrap().clock.now()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dates_that_are_asked_for_are_the_certificate_s() {
    let ca = Ca::with(Wish::whole()).await;
    let mut client = ca.registered().await;
    let (now, profile) = (now(&ca), Profile::server());
    let backdate = Duration::from_secs(u64::from(profile.backdate_minutes) * 60);
    let second = Duration::from_secs(1);
    for (not_before, not_after) in [
        (Some(now), Some(now.plus(HOUR))),
        (Some(now.plus(HOUR)), Some(now.plus(2 * HOUR))),
        (Some(now.minus(backdate)), Some(now.plus(HOUR))),
        (None, Some(now.plus(48 * HOUR))),
        // The whole lifetime: notAfter is the last second that counts.
        (Some(now), Some(now.plus(profile.lifetime()).minus(second))),
        (Some(now.plus(23 * HOUR)), None),
        (None, None),
    ] {
        let dates: Vec<(&str, Timestamp)> = [("notBefore", not_before), ("notAfter", not_after)]
            .into_iter()
            .filter_map(|(member, at)| Some((member, at?)))
            .collect();
        let placed = order(&mut client, &dates).await;
        // The order says what was asked, and nothing that was not.
        let object = placed.json();
        for (member, at) in [("notBefore", not_before), ("notAfter", not_after)] {
            assert_eq!(object.get(member), at.map(|at| json!(at.to_string())).as_ref(), "{object}");
        }
        let (done, url) = finalized(&ca, &mut client, &placed).await;
        assert_eq!(done.status, 200, "{done:?}");
        let (begins, ends) = client.leaf(&url).await.validity();
        if let Some(at) = not_before {
            assert_eq!(begins, at, "{dates:?}");
        } else {
            assert!(begins <= now && begins >= now.minus(backdate), "{begins}");
        }
        match not_after {
            Some(at) => assert_eq!(ends, at, "{dates:?}"),
            None => assert!(ends.since(begins) < profile.lifetime(), "{begins} {ends}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dates_that_cannot_be_met_are_refused_before_anything_is_proven() {
    let ca = Ca::with(Wish::whole()).await;
    let mut client = ca.registered().await;
    let (now, profile) = (now(&ca), Profile::server());
    let backdate = Duration::from_secs(u64::from(profile.backdate_minutes) * 60);
    let second = Duration::from_secs(1);
    for (what, dates) in [
        ("before what the profile backdates", vec![("notBefore", now.minus(backdate + second))]),
        ("more than a day ahead", vec![("notBefore", now.plus(24 * HOUR + second))]),
        ("an end that is now", vec![("notAfter", now)]),
        (
            "an end before the beginning",
            vec![("notBefore", now.plus(2 * HOUR)), ("notAfter", now.plus(HOUR))],
        ),
        ("a second too long", vec![("notBefore", now), ("notAfter", now.plus(profile.lifetime()))]),
        (
            "a whole lifetime that begins later",
            vec![("notBefore", now.plus(HOUR)), ("notAfter", now.plus(profile.lifetime()))],
        ),
    ] {
        let refused = order(&mut client, &dates).await;
        assert_eq!((refused.status, refused.problem().as_str()), (400, "malformed"), "{what}");
    }
    for text in ["2099-01-01T00:00:00.5Z", "2099-01-01", "2099-13-01T00:00:00Z", "soon", ""] {
        let payload = json!({
            "identifiers": [{ "type": "dns", "value": "dated.test" }], "notAfter": text,
        });
        let refused = client.post(&client.new_order_url(), &payload).await;
        assert_eq!((refused.status, refused.problem().as_str()), (400, "malformed"), "{text}");
    }
    let orders = format!("{}/orders", client.account.clone().unwrap());
    assert_eq!(client.post_as_get(&orders).await.json()["orders"], json!([]));
}

/// An order whose dates went by has expired: it is never altered, and nothing else is made of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_ends_when_its_dates_cannot_be_met_any_more() {
    let ca = Ca::with(Wish::whole()).await;
    let mut client = ca.registered().await;
    let begun = now(&ca);
    let clock = ca.house.as_ref().unwrap().clock.clone();
    for (dates, ends) in [
        (vec![("notAfter", begun.plus(HOUR))], begun.plus(HOUR)),
        // As far as the issuer backdates.
        (vec![("notBefore", begun)], begun.plus(48 * HOUR)),
        (
            vec![("notBefore", begun.plus(HOUR)), ("notAfter", begun.plus(9 * HOUR))],
            begun.plus(9 * HOUR),
        ),
    ] {
        let placed = order(&mut client, &dates).await;
        assert_eq!(placed.json()["expires"], json!(ends.to_string()), "{dates:?}");
    }
    let placed = order(&mut client, &[("notAfter", begun.plus(HOUR))]).await;
    clock.advance(HOUR);
    let (late, url) = finalized(&ca, &mut client, &placed).await;
    assert_eq!((late.status, late.problem().as_str()), (403, "orderNotReady"), "{late:?}");
    let ended = client.post_as_get(&url).await.json();
    assert_eq!(ended["status"], "invalid", "{ended}");
    assert!(ended["error"]["detail"].as_str().unwrap().contains("expired"), "{ended}");

    // At the last moment that the issuer backdates to.
    let placed = order(&mut client, &[("notBefore", begun)]).await;
    clock.advance(47 * HOUR - Duration::from_secs(1));
    ca.house.as_ref().unwrap().accept_clock();
    let (_, url) = finalized(&ca, &mut client, &placed).await;
    assert_eq!(client.leaf(&url).await.validity().0, begun);
}
