//! RFC 8555 section 7.4.2: the certificate's chains and forms; and the headers that every ACME answer carries.

use chancery::pki::certificate::Certificate;
use chancery::pki::cross;
use hyper::Method;
use serde_json::json;

use crate::support::raw::csr;
use crate::support::{Ca, Client, Wish};

async fn certificate(ca: &Ca, client: &mut Client) -> String {
    let (_, order) = client.ready(ca, &["dns:a.test"]).await;
    let finalize = order["finalize"].as_str().unwrap();
    let done = client.post(finalize, &json!({ "csr": csr(&["a.test"]) })).await.json();
    done["certificate"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_has_alternate_chains() {
    let mut wish = Wish::new();
    let (issuing, root) = (wish.issuer.issuing.clone(), wish.issuer.root.clone());
    wish.cross = vec![vec![root.clone(), issuing.clone()]];
    let ca = Ca::with(wish).await;
    let mut client = ca.registered().await;
    let url = certificate(&ca, &mut client).await;
    let alternates = [format!("{url}/1"), format!("{url}/2")];
    let usual = client.post_as_get(&url).await;
    let of = |answer: &crate::support::raw::Answer| cross::parse_bundle(answer.text()).unwrap();
    let leaf = of(&usual)[0].clone();
    let der = |chain: &[Certificate]| -> Vec<Vec<u8>> {
        chain.iter().map(|certificate| certificate.der().to_vec()).collect()
    };
    assert_eq!(der(&of(&usual)[1..]), der(std::slice::from_ref(&issuing)));
    // Where the log proves it (RFC 8288: a relation that nobody registered is a URI).
    let proof = format!("<{}/proof/{}.tlog-proof>", ca.base, leaf.serial().unwrap());
    let expected = format!("{proof};rel=\"https://c2sp.org/tlog-proof@v1\"");
    assert!(usual.links().contains(&expected.as_str()), "{:?}", usual.links());
    let links = |answer: &crate::support::raw::Answer| -> Vec<String> {
        let links = answer.links().into_iter().filter(|link| link.ends_with("rel=\"alternate\""));
        links.map(|link| link[1..link.find('>').unwrap()].to_owned()).collect()
    };
    assert_eq!(links(&usual), alternates);
    let behind = [vec![issuing.clone(), root.clone()], vec![root, issuing]];
    for (n, alternate) in alternates.iter().enumerate() {
        let answer = client.post_as_get(alternate).await;
        assert_eq!(answer.header("content-type"), Some("application/pem-certificate-chain"));
        assert_eq!(of(&answer)[0].der(), leaf.der());
        assert_eq!(der(&of(&answer)[1..]), der(&behind[n]));
        let others = [url.clone(), alternates[1 - n].clone()];
        assert_eq!(links(&answer), others, "all but itself");
    }
    for missing in [format!("{url}/3"), format!("{url}/0"), format!("{url}/01")] {
        assert_eq!(client.post_as_get(&missing).await.status, 404, "{missing}");
    }
    let mut stranger = ca.registered().await;
    assert_eq!(stranger.post_as_get(&alternates[0]).await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_by_itself_leads_up() {
    let ca = Ca::start().await;
    let mut client = ca.registered().await;
    let url = certificate(&ca, &mut client).await;
    let header = client.header(&url).await;
    let jws = client.key.sign(&header, "").to_string();
    let request = hyper::Request::builder()
        .method(Method::POST)
        .uri(client.path(&url))
        .header("host", "ca")
        .header("content-type", "application/jose+json")
        .header("accept", "application/pkix-cert;q=1, */*;q=0.1");
    let answer = client.send(request.body(jws.into()).unwrap()).await;
    assert_eq!(answer.header("content-type"), Some("application/pkix-cert"), "{answer:?}");
    let leaf = Certificate::parse(&answer.body).unwrap();
    assert!(leaf.verify_issued_by(&ca.issuer.issuing));
    let up = format!("<{}>;rel=\"up\"", ca.url("/issuing.der"));
    assert!(answer.links().contains(&up.as_str()), "{answer:?}");
}

/// Section 7.1: CORS on all, a link to the directory on all but the directory, and preflight for all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_may_be_read_by_scripts_and_leads_to_the_directory() {
    let ca = Ca::start().await;
    let mut client = ca.registered().await;
    let certificate = certificate(&ca, &mut client).await;
    let order = client.order(&["dns:b.test"]).await;
    let authz = order.json()["authorizations"][0].as_str().unwrap().to_owned();
    let challenge = client.challenge(&authz).await["url"].as_str().unwrap().to_owned();
    let account = client.account.clone().unwrap();
    let index = format!("<{}>;rel=\"index\"", ca.url("/acme/directory"));
    for url in [
        certificate,
        order.header("location").unwrap().to_owned(),
        authz,
        challenge,
        format!("{account}/orders"),
        account,
        ca.url("/acme/new-nonce"),
        ca.url("/acme/order/AAAAAAAAAAAAAAAAAAAAAA"),
    ] {
        let answer = client.post_as_get(&url).await;
        assert!(answer.links().contains(&index.as_str()), "{url}: {answer:?}");
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"), "{url}");
        let exposed = answer.header("access-control-expose-headers").unwrap();
        for name in ["Link", "Location", "Replay-Nonce", "Retry-After"] {
            assert!(exposed.split(", ").any(|exposed| exposed == name), "{url}: {exposed}");
        }
        assert!(answer.header("replay-nonce").is_some(), "{url}");
        let preflight =
            client.request(Method::OPTIONS, client.path(&url).to_owned().as_str()).await;
        assert_eq!(preflight.status, 204, "{url}");
        let methods = preflight.header("access-control-allow-methods").unwrap();
        assert!(methods.contains("POST"), "{methods}");
        assert_eq!(preflight.header("access-control-allow-headers"), Some("Content-Type"));
    }
    let directory = client.get("/acme/directory").await;
    assert!(directory.links().is_empty());
    assert_eq!(directory.header("access-control-allow-origin"), Some("*"));
}
