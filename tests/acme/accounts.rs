//! RFC 8555 section 7.3: accounts.

use std::sync::atomic::Ordering;

use chancery::id::{AccountId, Timestamp};
use chancery::store::Change;
use serde_json::json;

use crate::support::{Ca, Wish};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_has_one_account() {
    let ca = Ca::start().await;
    let mut client = ca.client().await;
    let url = client.new_account_url();
    let asked =
        json!({ "termsOfServiceAgreed": true, "contact": ["mailto:a@ca.test"], "mystery": 1 });
    let created = client.post(&url, &asked).await;
    assert_eq!(created.status, 201, "{created:?}");
    let location = created.header("location").unwrap().to_owned();
    let account = created.json();
    assert_eq!(account["status"], "valid");
    assert_eq!(account["contact"], json!(["mailto:a@ca.test"]));
    assert_eq!(account["orders"], format!("{location}/orders"));
    assert!(account.get("mystery").is_none());

    // Known: as it was, whatever is asked now.
    let again = client.post(&url, &json!({ "contact": ["mailto:b@ca.test"] })).await;
    assert_eq!(again.status, 200);
    assert_eq!(again.header("location"), Some(location.as_str()));
    assert_eq!(again.json(), account);
    let found = client.post(&url, &json!({ "onlyReturnExisting": true })).await;
    assert_eq!((found.status, found.header("location")), (200, Some(location.as_str())));

    client.account = Some(location.clone());
    assert_eq!(client.post_as_get(&location).await.json(), account);
    assert_eq!(client.post(&location, &json!({})).await.json(), account);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_an_account_is_refused() {
    let ca = Ca::start().await;
    let mut client = ca.client().await;
    let url = client.new_account_url();
    for (payload, problem) in [
        (json!({ "onlyReturnExisting": true }), "accountDoesNotExist"),
        (json!({ "contact": ["tel:+123"] }), "unsupportedContact"),
        (json!({ "contact": ["mailto:nobody"] }), "invalidContact"),
        (json!({ "contact": "mailto:a@ca.test" }), "malformed"),
        (json!([]), "malformed"),
    ] {
        let answer = client.post(&url, &payload).await;
        assert_eq!((answer.status, answer.problem().as_str()), (400, problem), "{payload}");
    }
    let answer = client.post_as_get(&url).await;
    assert_eq!((answer.status, answer.problem().as_str()), (400, "malformed"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn terms_must_be_agreed_to() {
    let mut wish = Wish::new();
    wish.settings.terms_of_service = Some("https://ca.test/terms".into());
    let ca = Ca::with(wish).await;
    let mut client = ca.client().await;
    let url = client.new_account_url();
    let answer = client.post(&url, &json!({})).await;
    assert_eq!((answer.status, answer.problem().as_str()), (400, "malformed"));
    assert!(answer.links().contains(&"<https://ca.test/terms>;rel=\"terms-of-service\""));
    let answer = client.post(&url, &json!({ "termsOfServiceAgreed": true })).await;
    assert_eq!(answer.status, 201);
    assert_eq!(answer.json()["termsOfServiceAgreed"], true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_issuer_there_is_no_registration_until_it_is_back() {
    let ca = Ca::start().await;
    let mut client = ca.client().await;
    let mut known = ca.registered().await;
    ca.issuer.away.store(true, Ordering::SeqCst);
    let answer = client.register().await;
    assert_eq!((answer.status, answer.problem().as_str()), (503, "serverInternal"));
    assert!(answer.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    assert!(answer.header("replay-nonce").is_some());
    // Who has an account goes on.
    assert_eq!(known.order(&["dns:a.test"]).await.status, 201);
    ca.issuer.away.store(false, Ordering::SeqCst);
    assert_eq!(client.register().await.status, 201);
}

/// Only what was registered counts: neither known keys nor what the issuer could not answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_address_registers_so_many_accounts_an_hour() {
    let mut wish = Wish::new();
    wish.settings.limits.registrations_per_address = 2;
    let ca = Ca::with(wish).await;
    let mut first = ca.client().await;
    ca.issuer.away.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        assert_eq!(first.register().await.status, 503);
    }
    ca.issuer.away.store(false, Ordering::SeqCst);
    assert_eq!(first.register().await.status, 201);
    assert_eq!(ca.client().await.register().await.status, 201);
    let refused = ca.client().await.register().await;
    assert_eq!((refused.status, refused.problem().as_str()), (429, "rateLimited"));
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((3000..=3600).contains(&wait), "{wait}");
    assert_eq!(first.register().await.status, 200, "a known key is no registration");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deactivated_account_is_shut_out() {
    let ca = Ca::start().await;
    let mut client = ca.registered().await;
    let url = client.account.clone().unwrap();
    let id: AccountId = url.rsplit('/').next().unwrap().parse().unwrap();
    let (mut account, version) = ca.store.account(id).await.unwrap().unwrap();
    account.deactivated = Some(Timestamp(1));
    ca.store.commit(vec![Change::Account(account, version)]).await.unwrap();
    let answer = client.post_as_get(&url).await;
    assert_eq!((answer.status, answer.problem().as_str()), (401, "unauthorized"));
    let answer = client.register().await;
    assert_eq!((answer.status, answer.problem().as_str()), (401, "unauthorized"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_account_cannot_look_at_another() {
    let ca = Ca::start().await;
    let (mut alice, bob) = (ca.registered().await, ca.registered().await);
    let bobs = bob.account.clone().unwrap();
    let missing = alice.post_as_get(&ca.url("/acme/acct/AAAAAAAAAAAAAAAAAAAAAA")).await;
    for url in [bobs.clone(), format!("{bobs}/orders")] {
        let answer = alice.post_as_get(&url).await;
        assert_eq!((answer.status, answer.json()), (404, missing.json()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn contacts_can_be_changed() {
    let ca = Ca::start().await;
    let mut client = ca.registered().await;
    let url = client.account.clone().unwrap();
    let contact = json!(["mailto:new@ca.test"]);
    let answer = client.post(&url, &json!({ "contact": contact })).await;
    assert_eq!((answer.status, &answer.json()["contact"]), (200, &contact));
    assert_eq!(client.post_as_get(&url).await.json()["contact"], contact);
    let answer = client.post(&url, &json!({ "contact": ["tel:1"] })).await;
    assert_eq!((answer.status, answer.problem().as_str()), (400, "unsupportedContact"));
    assert_eq!(client.post_as_get(&url).await.json()["contact"], contact);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_are_listed_in_pages() {
    let ca = Ca::start().await;
    let mut client = ca.registered().await;
    let mut made = Vec::new();
    for _ in 0..55 {
        let order = client.order(&["dns:a.test"]).await;
        made.push(order.header("location").unwrap().to_owned());
    }
    let mut url = format!("{}/orders", client.account.clone().unwrap());
    let mut listed = Vec::new();
    let mut pages = 0;
    loop {
        let page = client.post_as_get(&url).await;
        assert_eq!(page.status, 200, "{page:?}");
        pages += 1;
        listed.extend(
            page.json()["orders"]
                .as_array()
                .unwrap()
                .iter()
                .map(|o| o.as_str().unwrap().to_owned()),
        );
        let Some(next) = page.links().into_iter().find(|link| link.ends_with(";rel=\"next\""))
        else {
            break;
        };
        url = next[1..next.find('>').unwrap()].to_owned();
    }
    made.sort();
    listed.sort();
    assert_eq!((pages, listed), (2, made));
}

/// RFC 8555 section 7.3.4: what the directory says, and what comes back in the account.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accounts_by_ticket_only() {
    let mut wish = Wish::new();
    wish.external_account_required = true;
    let ca = Ca::with(wish).await;
    let mut client = ca.client().await;
    let directory = client.get("/acme/directory").await.json();
    assert_eq!(directory["meta"]["externalAccountRequired"], true);
    let url = client.new_account_url();
    let answer = client.post(&url, &json!({ "contact": ["mailto:a@ca.test"] })).await;
    assert_eq!((answer.status, answer.problem().as_str()), (403, "externalAccountRequired"));
    for malformed in [json!("x"), json!({ "protected": "e30" }), json!([])] {
        let answer = client.post(&url, &json!({ "externalAccountBinding": malformed })).await;
        assert_eq!((answer.status, answer.problem().as_str()), (400, "malformed"));
    }
    let binding = json!({ "protected": "e30", "payload": "e30", "signature": "AAAA" });
    let created = client.post(&url, &json!({ "externalAccountBinding": binding })).await;
    assert_eq!((created.status, &created.json()["externalAccountBinding"]), (201, &binding));
    // It has its account whatever else it says now.
    let again = client.post(&url, &json!({})).await;
    assert_eq!((again.status, again.json()), (200, created.json()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_are_bound_to_others_are_not_ordered() {
    let ca = Ca::start().await;
    let mut client = ca.registered().await;
    ca.issuer.bound.lock().unwrap().push("cam.test".into());
    let answer = client.order(&["dns:a.test", "dns:cam.test"]).await;
    assert_eq!((answer.status, answer.problem().as_str()), (403, "rejectedIdentifier"));
    let named = &answer.json()["subproblems"][0]["identifier"];
    assert_eq!(named, &json!({ "type": "dns", "value": "cam.test" }));
    let list = format!("{}/orders", client.account.clone().unwrap());
    assert_eq!(client.post_as_get(&list).await.json()["orders"], json!([]));
    assert_eq!(client.order(&["dns:a.test"]).await.status, 201);
}

/// RFC 8555 section 7.3.3: who agreed to earlier terms is told where the new ones are, and how to agree.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn terms_that_changed_are_agreed_to_anew() {
    let mut wish = Wish::new();
    wish.settings.terms_of_service = Some("https://ca.test/terms/1".into());
    let before = Ca::with(wish).await;
    let client = before.registered().await;

    let mut wish = Wish::new();
    (wish.issuer, wish.store) = (before.issuer.clone(), before.store.clone());
    wish.settings.terms_of_service = Some("https://ca.test/terms/2".into());
    let ca = Ca::with(wish).await;
    let mut again = ca.client().await;
    again.key = client.key;
    let account = client.account.unwrap().replace(&before.base, &ca.base);
    again.account = Some(account.clone());
    let refused = again.order(&["dns:a.test"]).await;
    assert_eq!((refused.status, refused.problem().as_str()), (403, "userActionRequired"));
    assert!(refused.links().contains(&"<https://ca.test/terms/2>;rel=\"terms-of-service\""));
    assert_eq!(refused.json()["instance"], format!("{}/#terms", ca.base));
    assert!(again.get("/").await.text().contains("https://ca.test/terms/2"));

    // Other changes are no agreement, and need none.
    let changed = again.post(&account, &json!({ "contact": ["mailto:b@ca.test"] })).await;
    assert_eq!(changed.status, 200);
    assert_eq!(again.order(&["dns:a.test"]).await.problem(), "userActionRequired");
    let agreed = again.post(&account, &json!({ "termsOfServiceAgreed": true })).await;
    assert_eq!((agreed.status, &agreed.json()["contact"]), (200, &json!(["mailto:b@ca.test"])));
    assert_eq!(again.order(&["dns:a.test"]).await.status, 201);
}

/// The issuer has the account; a store that lost it gets it back, under the same URL.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_the_store_lost_is_found_again() {
    let before = Ca::start().await;
    let client = before.registered().await;
    let mut wish = Wish::new();
    wish.issuer = before.issuer.clone();
    let ca = Ca::with(wish).await;
    let mut again = ca.client().await;
    again.key = client.key;
    let url = again.new_account_url();
    let found = again.post(&url, &json!({ "onlyReturnExisting": true })).await;
    let account = client.account.unwrap().replace(&before.base, &ca.base);
    assert_eq!((found.status, found.header("location")), (200, Some(account.as_str())));
    again.account = Some(account);
    assert_eq!(again.order(&["dns:a.test"]).await.status, 201);
}
