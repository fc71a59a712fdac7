//! The whole path with a client that others wrote.

use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Identifier, NewAccount, NewOrder, OrderStatus,
    RetryPolicy,
};

use crate::support::Ca;

const PATIENCE: RetryPolicy =
    RetryPolicy::new().initial_delay(std::time::Duration::from_millis(50)).backoff(1.5);

async fn enrol(ca: &Ca, identifiers: &[Identifier]) -> String {
    let wanted =
        NewAccount { contact: &[], terms_of_service_agreed: true, only_return_existing: false };
    let builder = Account::builder_with_root(ca.root_file()).unwrap();
    let (account, _) = builder.create(&wanted, ca.url("/acme/directory"), None).await.unwrap();
    let mut order = account.new_order(&NewOrder::new(identifiers)).await.unwrap();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.unwrap();
        assert_eq!(authorization.status, AuthorizationStatus::Pending);
        let mut challenge = authorization.challenge(ChallengeType::Http01).unwrap();
        let answer = challenge.key_authorization();
        let (token, _) = answer.as_str().split_once('.').unwrap();
        ca.responder.tell(token, answer.as_str());
        challenge.set_ready().await.unwrap();
    }
    assert_eq!(order.poll_ready(&PATIENCE).await.unwrap(), OrderStatus::Ready);
    let names: Vec<String> = identifiers
        .iter()
        .map(|identifier| match identifier {
            Identifier::Dns(name) => name.clone(),
            Identifier::Ip(address) => address.to_string(),
            other => panic!("{other:?}"),
        })
        .collect();
    let mut params = rcgen::CertificateParams::new(names).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let csr = params.serialize_request(&rcgen::KeyPair::generate().unwrap()).unwrap();
    order.finalize_csr(csr.der()).await.unwrap();
    order.poll_certificate(&PATIENCE).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instant_acme_enrols_names_and_addresses() {
    let ca = Ca::start().await;
    let chain = enrol(&ca, &[Identifier::Dns("device.test".into())]).await;
    assert_eq!(chain.matches("BEGIN CERTIFICATE").count(), 2);
    let chain = enrol(&ca, &[Identifier::Ip("127.0.0.1".parse().unwrap())]).await;
    assert_eq!(chain.matches("BEGIN CERTIFICATE").count(), 2);
}
