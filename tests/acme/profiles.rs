//! draft-ietf-acme-profiles: chosen, shown, refused, withdrawn.

use chancery::pki::name::DnsName;
use chancery::pki::policy::Network;
use chancery::pki::profile::{ExtendedUsage, Profile};
use serde_json::{Value, json};

use crate::support::raw::{Answer, csr, csr_by};
use crate::support::{Ca, Client, Wish};

fn profiles() -> Vec<Profile> {
    let server = Profile::server();
    let named = |name: &str| Profile { name: name.into(), ..Profile::server() };
    vec![
        server,
        Profile {
            usages: vec![ExtendedUsage::Server, ExtendedUsage::Client],
            keys: vec!["ec-p384".into()],
            max_names: 1,
            ..named("device")
        },
        Profile {
            allow_names: vec![DnsName::parse("print.test").unwrap()],
            allow_networks: vec![Network::parse("127.0.0.0/30").unwrap()],
            ..named("printer")
        },
        Profile { challenges: vec!["dns-01".into()], ..named("by-dns") },
    ]
}

async fn start() -> Ca {
    Ca::with(Wish { profiles: profiles(), ..Wish::new() }).await
}

async fn order(client: &mut Client, names: &[&str], profile: Option<&str>) -> Answer {
    let identifiers: Vec<Value> = names
        .iter()
        .map(|name| {
            let (kind, value) = name.split_once(':').unwrap();
            json!({ "type": kind, "value": value })
        })
        .collect();
    let mut payload = json!({ "identifiers": identifiers });
    if let Some(profile) = profile {
        payload["profile"] = json!(profile);
    }
    client.post(&client.new_order_url(), &payload).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn profiles_are_advertised_and_shown() {
    let ca = start().await;
    let mut client = ca.registered().await;
    let directory = client.get("/acme/directory").await.json();
    let advertised = directory["meta"]["profiles"].as_object().unwrap();
    let names: Vec<&String> = advertised.keys().collect();
    assert_eq!(names, ["by-dns", "device", "printer", "server"]);
    assert!(advertised.values().all(Value::is_string));
    for (asked, shown) in [(None, "server"), (Some("server"), "server"), (Some("device"), "device")]
    {
        let placed = order(&mut client, &["dns:a.test"], asked).await;
        assert_eq!((placed.status, &placed.json()["profile"]), (201, &json!(shown)));
        let url = placed.header("location").unwrap();
        assert_eq!(client.post_as_get(url).await.json()["profile"], shown);
    }
    for unknown in ["none", "", "SERVER"] {
        let refused = order(&mut client, &["dns:a.test"], Some(unknown)).await;
        assert_eq!((refused.status, refused.problem().as_str()), (400, "invalidProfile"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_profile_has_names_of_its_own() {
    let ca = start().await;
    let mut client = ca.registered().await;
    for (name, good) in [
        ("dns:print.test", true),
        ("dns:x.print.test", true),
        ("ip:127.0.0.1", true),
        ("dns:blueprint.test", false),
        ("dns:a.test", false),
        ("ip:127.0.0.4", false),
    ] {
        let answer = order(&mut client, &[name], Some("printer")).await;
        if good {
            assert_eq!(answer.status, 201, "{name}: {answer:?}");
        } else {
            let problem = (answer.status, answer.problem());
            assert_eq!(problem, (403, "rejectedIdentifier".into()), "{name}");
            let detail = answer.json()["detail"].as_str().unwrap().to_owned();
            assert!(detail.contains("printer"), "{detail}");
        }
    }
    let many = order(&mut client, &["dns:a.test", "dns:b.test"], Some("device")).await;
    assert_eq!((many.status, many.problem().as_str()), (400, "malformed"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_profile_says_how_names_are_proven() {
    let mut wish = Wish { profiles: profiles(), ..Wish::new() };
    wish.validation.challenges = vec!["http-01".into(), "dns-01".into()];
    let ca = Ca::with(wish).await;
    let mut client = ca.registered().await;
    // Proven over http, which this profile does not accept.
    let (_, proven) = client.ready(&ca, &["dns:a.test"]).await;
    let placed = order(&mut client, &["dns:a.test"], Some("by-dns")).await.json();
    assert_ne!(placed["authorizations"], proven["authorizations"]);
    let authz = client.post_as_get(placed["authorizations"][0].as_str().unwrap()).await.json();
    let offered: Vec<&Value> =
        authz["challenges"].as_array().unwrap().iter().map(|c| &c["type"]).collect();
    assert_eq!(offered, ["dns-01"]);
    let address = order(&mut client, &["ip:127.0.0.1"], Some("by-dns")).await;
    assert_eq!((address.status, address.problem().as_str()), (403, "rejectedIdentifier"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_profile_says_which_keys_it_takes() {
    let ca = start().await;
    let mut client = ca.registered().await;
    let placed = order(&mut client, &["dns:a.test"], Some("device")).await;
    client.prove(&ca, &placed).await;
    let finalize = placed.json()["finalize"].as_str().unwrap().to_owned();
    let refused = client.post(&finalize, &json!({ "csr": csr(&["a.test"]) })).await;
    assert_eq!((refused.status, refused.problem().as_str()), (400, "badCSR"));
    let url = placed.header("location").unwrap();
    assert_eq!(client.post_as_get(url).await.json()["status"], "ready", "and may try again");
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let answer = client.post(&finalize, &json!({ "csr": csr_by(&key, &["a.test"]) })).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// A new web process on the same store, whose configuration lacks the profile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_profile_that_was_withdrawn_finalizes_nothing() {
    let first = start().await;
    let mut client = first.registered().await;
    let placed = order(&mut client, &["dns:x.print.test"], Some("printer")).await;
    client.prove(&first, &placed).await;
    let (issuer, store) = (first.issuer.clone(), first.store.clone());
    let base = first.base.clone();
    first.web.shutdown().await;

    let second = Ca::with(Wish { issuer, store, ..Wish::new() }).await;
    let path = |url: &str| second.url(url.strip_prefix(&base).unwrap());
    let mut again = second.client().await;
    (again.key, again.account) = (client.key, Some(path(&client.account.unwrap())));
    let finalize = path(placed.json()["finalize"].as_str().unwrap());
    let refused = again.post(&finalize, &json!({ "csr": csr(&["x.print.test"]) })).await;
    assert_eq!((refused.status, refused.problem().as_str()), (400, "invalidProfile"));
    let url = path(placed.header("location").unwrap());
    assert_eq!(again.post_as_get(&url).await.json()["profile"], "printer");
}
