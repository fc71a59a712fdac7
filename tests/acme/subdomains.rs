//! RFC 9444: proof of a name that counts for the names below it.

use serde_json::{Value, json};

use crate::support::raw::{Answer, csr};
use crate::support::{Ca, Client, Wish};

async fn start(subdomains: bool) -> Ca {
    let mut wish = Wish { subdomains, wildcards: true, ..Wish::new() };
    wish.validation.challenges = vec!["http-01".into(), "dns-01".into()];
    Ca::with(wish).await
}

/// Orders names, each with the ancestor that stands after a `<`.
async fn order(client: &mut Client, names: &[&str]) -> Answer {
    let identifiers: Vec<Value> = names
        .iter()
        .map(|name| match name.split_once('<') {
            Some((name, above)) => {
                json!({ "type": "dns", "value": name, "ancestorDomain": above })
            }
            None => json!({ "type": "dns", "value": name }),
        })
        .collect();
    client.post(&client.new_order_url(), &json!({ "identifiers": identifiers })).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ancestor_is_proven_once_for_all_below_it() {
    let ca = start(true).await;
    let mut client = ca.registered().await;
    let directory = client.get("/acme/directory").await.json();
    assert_eq!(directory["meta"]["subdomainAuthAllowed"], true);
    let names = ["x.plant.test<plant.test", "y.z.plant.test<plant.test", "other.test"];
    let placed = order(&mut client, &names).await;
    assert_eq!(placed.status, 201, "{placed:?}");
    let authorizations = placed.json()["authorizations"].as_array().unwrap().clone();
    assert_eq!(authorizations.len(), 2, "one for two names: {placed:?}");
    let above = client.prove_by_dns(&ca, authorizations[0].as_str().unwrap()).await;
    assert_eq!(above["identifier"], json!({ "type": "dns", "value": "plant.test" }));
    assert_eq!(above["subdomainAuthAllowed"], true);
    assert!(above.get("wildcard").is_none());
    let kinds: Vec<&Value> =
        above["challenges"].as_array().unwrap().iter().map(|c| &c["type"]).collect();
    assert_eq!(kinds, ["dns-01"], "one host says nothing of the others");
    let plain = client.prove_by_dns(&ca, authorizations[1].as_str().unwrap()).await;
    assert!(plain.get("subdomainAuthAllowed").is_none());
    let url = placed.header("location").unwrap();
    let ready = client.post_as_get(url).await.json();
    assert_eq!(ready["status"], "ready");
    let names = csr(&["x.plant.test", "y.z.plant.test", "other.test"]);
    let done = client.post(ready["finalize"].as_str().unwrap(), &json!({ "csr": names })).await;
    assert_eq!(done.json()["status"], "valid", "{done:?}");

    // Later orders rest on it, label by label, and wildcards do not.
    for (name, status) in [
        ("new.plant.test", "ready"),
        ("plant.test", "ready"),
        ("powerplant.test", "pending"),
        ("*.plant.test", "pending"),
        ("x.other.test", "pending"),
    ] {
        let placed = order(&mut client, &[name]).await.json();
        assert_eq!(placed["status"], status, "{name}");
    }
    let mut stranger = ca.registered().await;
    assert_eq!(order(&mut stranger, &["new.plant.test"]).await.json()["status"], "pending");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wildcard_takes_an_ancestor_proven_for_wildcards() {
    let ca = start(true).await;
    let mut client = ca.registered().await;
    let placed = order(&mut client, &["*.x.plant.test<plant.test"]).await.json();
    let authz = client.prove_by_dns(&ca, placed["authorizations"][0].as_str().unwrap()).await;
    assert_eq!(authz["identifier"]["value"], "plant.test");
    assert_eq!((&authz["wildcard"], &authz["subdomainAuthAllowed"]), (&json!(true), &json!(true)));
    assert_eq!(order(&mut client, &["*.y.plant.test"]).await.json()["status"], "ready");
    assert_eq!(order(&mut client, &["y.plant.test"]).await.json()["status"], "pending");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ancestor_that_is_none_is_refused_and_one_that_cannot_be_had_is_not_needed() {
    let ca = start(true).await;
    let mut client = ca.registered().await;
    for (bad, why) in [
        // Not at a label's boundary, another tree, below, beside.
        ("lant.test", "not below"),
        ("other.test", "not below"),
        ("y.x.plant.test", "not below"),
        ("y.plant.test", "not below"),
        ("example.com", "not below"),
        ("*.plant.test", "wildcard"),
        ("", "ancestorDomain"),
        (".", "ancestorDomain"),
        ("plant..test", "ancestorDomain"),
        ("-plant.test", "ancestorDomain"),
        ("10.0.0.1", "ancestorDomain"),
        ("http://plant.test", "ancestorDomain"),
    ] {
        let asked = format!("x.plant.test<{bad}");
        // One that is right does not help the other.
        let refused = order(&mut client, &["z.plant.test<plant.test", &asked]).await;
        assert_eq!((refused.status, refused.problem().as_str()), (400, "malformed"), "{bad}");
        let parts = refused.json()["subproblems"].clone();
        assert_eq!(parts.as_array().unwrap().len(), 1, "{bad}: {parts}");
        assert_eq!(parts[0]["identifier"]["value"], "x.plant.test");
        assert!(parts[0]["detail"].as_str().unwrap().contains(why), "{bad}: {parts}");
    }
    let url = client.new_order_url();
    let address = json!({ "type": "ip", "value": "10.0.0.1", "ancestorDomain": "plant.test" });
    let refused = client.post(&url, &json!({ "identifiers": [address] })).await;
    assert_eq!((refused.status, refused.problem().as_str()), (400, "malformed"), "{refused:?}");
    assert!(refused.text().contains("an address has no ancestorDomain"), "{refused:?}");
    for odd in [json!(7), json!(["plant.test"]), json!({})] {
        let name = json!({ "type": "dns", "value": "x.plant.test", "ancestorDomain": odd });
        let refused = client.post(&url, &json!({ "identifiers": [name] })).await;
        assert_eq!((refused.status, refused.problem().as_str()), (400, "malformed"), "{odd}");
    }
    let orders = format!("{}/orders", client.account.clone().unwrap());
    assert_eq!(client.post_as_get(&orders).await.json()["orders"], json!([]));
    // The name itself is an ancestor, and absence is no refusal.
    for (name, ancestor) in [("x.plant.test", json!("x.plant.test")), ("y.plant.test", Value::Null)]
    {
        let name = json!({ "type": "dns", "value": name, "ancestorDomain": ancestor });
        let placed = client.post(&url, &json!({ "identifiers": [name] })).await;
        assert_eq!(placed.status, 201, "{placed:?}");
    }
    // A single label is nobody's zone: the name itself is to be proven.
    let placed = order(&mut client, &["x.plant.test<test"]).await.json();
    let authz = client.post_as_get(placed["authorizations"][0].as_str().unwrap()).await.json();
    assert_eq!(authz["identifier"]["value"], "x.plant.test");
    assert!(authz.get("subdomainAuthAllowed").is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn switched_off_it_is_as_if_nobody_had_asked() {
    let ca = start(false).await;
    let mut client = ca.registered().await;
    let placed = order(&mut client, &["x.plant.test<plant.test"]).await.json();
    let authz = client.post_as_get(placed["authorizations"][0].as_str().unwrap()).await.json();
    assert_eq!(authz["identifier"]["value"], "x.plant.test");
    let asked = json!({ "identifier": {
        "type": "dns", "value": "plant.test", "subdomainAuthAllowed": true,
    }});
    let made = client.post(&ca.url("/acme/new-authz"), &asked).await;
    assert_eq!(made.status, 201);
    assert!(made.json().get("subdomainAuthAllowed").is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_can_be_proven_before_there_is_an_order() {
    let ca = start(true).await;
    let mut client = ca.registered().await;
    let asked = json!({ "identifier": {
        "type": "dns", "value": "plant.test", "subdomainAuthAllowed": true,
    }});
    let made = client.post(&ca.url("/acme/new-authz"), &asked).await;
    assert_eq!((made.status, &made.json()["subdomainAuthAllowed"]), (201, &json!(true)));
    let url = made.header("location").unwrap().to_owned();
    client.prove_by_dns(&ca, &url).await;
    let placed = order(&mut client, &["a.b.plant.test"]).await.json();
    assert_eq!((&placed["status"], &placed["authorizations"]), (&json!("ready"), &json!([url])));
    // Given up, nothing rests on it.
    client.post(&url, &json!({ "status": "deactivated" })).await;
    assert_eq!(order(&mut client, &["a.b.plant.test"]).await.json()["status"], "pending");
}
