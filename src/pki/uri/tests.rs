use std::path::Path;

use super::*;
use proptest::prelude::*;

#[test]
fn the_parts_are_found() {
    let uri = Pkcs11Uri::parse(
        "pkcs11:token=The%20Software%20PKCS%2311;serial=0A1B;object=my-key;type=private;id=%69%95%3E%5C%F4\
         ?module-path=/usr/lib/libsofthsm2.so&pin-source=file:/etc/pin",
    )
    .unwrap();
    assert_eq!(uri.token.as_deref(), Some("The Software PKCS#11"));
    assert_eq!(uri.serial.as_deref(), Some("0A1B"));
    assert_eq!(uri.object.as_deref(), Some("my-key"));
    assert_eq!(uri.object_type.as_deref(), Some("private"));
    assert_eq!(uri.id.as_deref(), Some(&[0x69, 0x95, 0x3e, 0x5c, 0xf4][..]));
    assert_eq!(uri.module_path.as_deref(), Some("/usr/lib/libsofthsm2.so"));
    assert_eq!(uri.pin_source.as_deref(), Some("file:/etc/pin"));
    assert_eq!(Pkcs11Uri::parse("pkcs11:"), Ok(Pkcs11Uri::default()));
}

/// The examples of RFC 7512 section 3, as far as they hold no PIN.
#[test]
fn the_examples_of_the_standard_parse() {
    for text in [
        "pkcs11:",
        "pkcs11:object=my-pubkey;type=public",
        "pkcs11:object=my-key;type=private?pin-source=file:/etc/token",
        "pkcs11:token=The%20Software%20PKCS%2311%20Softtoken;manufacturer=Snake%20Oil,%20Inc.;model=1.0;\
         object=my-certificate;type=cert;id=%69%95%3E%5C%F4%BD%EC%91;serial=?pin-source=file:/etc/token_pin",
        "pkcs11:object=my-sign-key;type=private?module-name=mypkcs11",
        "pkcs11:object=my-sign-key;type=private?module-path=/mnt/libmypkcs11.so.1",
        "pkcs11:token=Software%20PKCS%2311%20softtoken;manufacturer=Snake%20Oil,%20Inc.?pin-source=|/bin/prompt",
        "pkcs11:slot-description=Sun%20Metaslot",
        "pkcs11:library-manufacturer=Snake%20Oil,%20Inc.;library-description=Soft%20Token%20Library;library-version=1.23",
    ] {
        let uri = Pkcs11Uri::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"));
        assert_eq!(Pkcs11Uri::parse(&uri.to_string()), Ok(uri), "{text}");
    }
}

#[test]
fn what_cannot_be_meant_is_refused() {
    for text in [
        "",
        "token=a",
        "pkcs12:token=a",
        "pkcs11:token",
        "pkcs11:token=a;token=b",
        "pkcs11:id=%01;id=%02",
        "pkcs11:slot-id=1;slot-id=1",
        "pkcs11:token=%4",
        "pkcs11:token=%zz",
        "pkcs11:token=%+1",
        "pkcs11:token=%FF",
        "pkcs11:token=a b",
        "pkcs11:token=a/b",
        "pkcs11:token=a|b",
        "pkcs11:Token=a",
        "pkcs11:type=key",
        "pkcs11:type=Private",
        "pkcs11:slot-id=",
        "pkcs11:slot-id=+1",
        "pkcs11:slot-id=1x",
        "pkcs11:slot-id=99999999999999999999",
        "pkcs11:library-version=1.2.3",
        "pkcs11:library-version=1.",
        "pkcs11:library-version=256",
        "pkcs11:x-vendor=1",
        "pkcs11:token=a?x-vendor=1",
        "pkcs11:pin-source=a",
        "pkcs11:module-path=a",
        "pkcs11:?token=a",
        "pkcs11:?pin-source=a&pin-source=a",
        "pkcs11:?pin-source=a;token=b",
        "pkcs11:token=a#b",
    ] {
        let error = Pkcs11Uri::parse(text).unwrap_err();
        assert_eq!(error.code(), "CHY-URI", "{text}");
    }
}

#[test]
fn schemes_know_no_case_and_versions_need_no_minor() {
    let uri = Pkcs11Uri::parse("PKCS11:token=a;library-version=3").unwrap();
    assert_eq!((uri.token.as_deref(), uri.library_version), (Some("a"), Some((3, 0))));
    assert_eq!(uri.to_string(), "pkcs11:token=a;library-version=3.0");
}

#[test]
fn a_pin_is_refused_and_not_repeated() {
    for text in [
        "pkcs11:token=a?pin-value=s3cret",
        "pkcs11:token=a;pin-value=s3cret",
        "pkcs11:token=a&pin-value=s3cret",
        "pkcs11:token=a?PIN-VALUE=s3cret",
        // Whatever is wrong with its value, that it is there is said first.
        "pkcs11:token=a?pin-value=s3 cret",
        "pkcs11:token=a?pin-value=%s3cret",
    ] {
        let error = Pkcs11Uri::parse(text).unwrap_err();
        assert_eq!((error.code(), &error), ("CHY-URI-PIN-VALUE", &UriError::PinValue));
        assert!(!error.to_string().contains("cret"));
    }
    let error = Pkcs11Uri::parse("pkcs11:token=a?pin-source=s3 cret").unwrap_err().to_string();
    assert!(!error.contains("cret"), "{error}");
    let error = Pkcs11Uri::parse("pkcs11:token=a?s3cret=1").unwrap_err().to_string();
    assert!(!error.contains("cret"), "{error}");
}

#[test]
fn a_token_is_named_by_what_stays() {
    for good in ["pkcs11:token=a", "pkcs11:serial=1", "pkcs11:model=m;slot-id=3"] {
        assert!(Pkcs11Uri::parse_token(good).is_ok(), "{good}");
    }
    let slot = Pkcs11Uri::parse_token("pkcs11:slot-id=0").unwrap_err().to_string();
    assert!(slot.contains("slot-id") && slot.contains("numbered anew"), "{slot}");
    for bad in
        ["pkcs11:", "pkcs11:slot-description=x", "pkcs11:token=a;object=k", "pkcs11:token=a;id=%01"]
    {
        assert!(Pkcs11Uri::parse_token(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_pin_source_is_a_file() {
    let file = |source: &str| {
        let uri = Pkcs11Uri { pin_source: Some(source.into()), ..Pkcs11Uri::default() };
        uri.pin_file().map(|file| file.unwrap())
    };
    for source in [
        "/etc/my pin",
        "file:/etc/my%20pin",
        "file:///etc/my%20pin",
        "FILE://localhost/etc/my%20pin",
    ] {
        assert_eq!(file(source).as_deref(), Ok(Path::new("/etc/my pin")), "{source}");
    }
    for source in [
        "",
        "|/bin/prompt",
        "pin",
        "file:pin",
        "file://host/pin",
        "https://ca/pin",
        "file:/a b",
        "/a\0",
    ] {
        assert!(file(source).is_err(), "{source}");
    }
    assert_eq!(Pkcs11Uri::default().pin_file(), Ok(None));
}

#[test]
fn a_module_is_named_by_path_or_short_name() {
    let path = Path::new("/usr/lib/libtpm2_pkcs11.so.1");
    let allows =
        |query: &str| Pkcs11Uri::parse(&format!("pkcs11:?{query}")).unwrap().allows_module(path);
    for good in [
        "",
        "module-name=tpm2_pkcs11",
        "module-name=libtpm2_pkcs11",
        "module-path=/usr/lib/libtpm2_pkcs11.so.1",
        "module-path=/usr/lib/libtpm2_pkcs11.so.1&module-name=tpm2_pkcs11",
    ] {
        assert!(allows(good), "{good}");
    }
    for bad in ["module-name=tpm2", "module-path=/opt/libtpm2_pkcs11.so.1", "module-name="] {
        assert!(!allows(bad), "{bad}");
    }
}

proptest! {
    #[test]
    fn what_is_printed_parses_to_the_same(
        token in proptest::option::of("\\PC{0,12}"),
        object in proptest::option::of("\\PC{0,12}"),
        library_version in proptest::option::of(any::<(u8, u8)>()),
        slot_id in proptest::option::of(any::<u64>()),
        id in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..8)),
        module_name in proptest::option::of("\\PC{0,12}"),
        pin_source in proptest::option::of("\\PC{0,12}"),
    ) {
        let uri = Pkcs11Uri {
            token, object, library_version, slot_id, id, module_name, pin_source, ..Pkcs11Uri::default()
        };
        prop_assert_eq!(Pkcs11Uri::parse(&uri.to_string()), Ok(uri));
    }

    #[test]
    fn foreign_text_never_panics(text in "pkcs11:\\PC{0,60}") {
        if let Ok(uri) = Pkcs11Uri::parse(&text) {
            prop_assert_eq!(Pkcs11Uri::parse(&uri.to_string()), Ok(uri.clone()));
            let _ = uri.pin_file();
        }
    }
}
