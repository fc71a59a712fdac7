// A certificate with Go's libraries: client acmez|autocert enrol|renew|revoke|rekey|deactivate NAME METHOD.
//
// acmez is the library inside Caddy (through certmagic); autocert is golang.org/x/crypto's. What both are told
// beside the arguments stands in the environment: DIRECTORY, PROFILE, EAB_KID, EAB_SECRET, HOOK_WWW, HOOK_RECORDS, HTTP and
// HOOK_TLS. The CA's root comes by SSL_CERT_FILE. `renew` does nothing unless renewal information says so.
package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
	cryptoacme "golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) == 2 && os.Args[1] == "version" {
		info, _ := debug.ReadBuildInfo()
		for _, module := range info.Deps {
			fmt.Println(module.Path, module.Version)
		}
		return
	}
	if len(os.Args) != 5 {
		log.Fatal("usage: client acmez|autocert enrol|renew|revoke|rekey|deactivate NAME METHOD")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	run := map[string]func(context.Context, string, string, string) error{"acmez": byAcmez, "autocert": byAutocert}
	if err := run[os.Args[1]](ctx, os.Args[2], os.Args[3], os.Args[4]); err != nil {
		log.Fatal(err)
	}
}

func byAcmez(ctx context.Context, verb, name, method string) error {
	client := acmez.Client{
		Client:           &acme.Client{Directory: os.Getenv("DIRECTORY")},
		ChallengeSolvers: map[string]acmez.Solver{method: &solver{}},
	}
	key, err := loadKey("account.pem")
	if err != nil {
		return err
	}
	account := acme.Account{TermsOfServiceAgreed: true, PrivateKey: key}
	if kid := os.Getenv("EAB_KID"); kid != "" {
		eab := acme.EAB{KeyID: kid, MACKey: os.Getenv("EAB_SECRET")}
		if err := account.SetExternalAccountBinding(ctx, client.Client, eab); err != nil {
			return err
		}
	}
	if account, err = client.NewAccount(ctx, account); err != nil {
		return err
	}
	switch verb {
	case "rekey":
		next, err := newKey("account.pem")
		if err != nil {
			return err
		}
		_, err = client.AccountKeyRollover(ctx, account, next)
		return err
	case "deactivate":
		account.Status = acme.StatusDeactivated
		_, err := client.UpdateAccount(ctx, account)
		return err
	}
	var replaces *x509.Certificate
	if verb != "enrol" {
		if replaces, err = loadCertificate("chain.pem"); err != nil {
			return err
		}
	}
	if verb == "revoke" {
		return client.RevokeCertificate(ctx, account, replaces, account.PrivateKey, acme.ReasonSuperseded)
	}
	if verb == "renew" {
		information, err := client.GetRenewalInfo(ctx, replaces)
		if err != nil {
			return err
		}
		if information.SuggestedWindow.Start.After(time.Now()) {
			return nil
		}
	}
	certificateKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	csr, err := acmez.NewCSR(certificateKey, []string{name})
	if err != nil {
		return err
	}
	parameters, err := acmez.OrderParametersFromCSR(account, csr)
	if err != nil {
		return err
	}
	parameters.Replaces = replaces
	parameters.Profile = os.Getenv("PROFILE")
	chains, err := client.ObtainCertificate(ctx, parameters)
	if err != nil {
		return err
	}
	return os.WriteFile("chain.pem", chains[0].ChainPEM, 0o644)
}

// Presents challenges of every type for acmez.
type solver struct{ listener net.Listener }

func (s *solver) Present(_ context.Context, challenge acme.Challenge) error {
	switch challenge.Type {
	case acme.ChallengeTypeHTTP01:
		path := os.Getenv("HOOK_WWW") + challenge.HTTP01ResourcePath()
		return os.WriteFile(path, []byte(challenge.KeyAuthorization), 0o644)
	case acme.ChallengeTypeDNS01:
		return os.WriteFile(record(challenge), []byte("TXT "+challenge.DNS01KeyAuthorization()+"\n"), 0o644)
	case acme.ChallengeTypeTLSALPN01:
		certificate, err := acmez.TLSALPN01ChallengeCert(challenge)
		if err != nil {
			return err
		}
		config := &tls.Config{Certificates: []tls.Certificate{*certificate}, NextProtos: []string{acmez.ACMETLS1Protocol}}
		if s.listener, err = tls.Listen("tcp", os.Getenv("HOOK_TLS"), config); err != nil {
			return err
		}
		go serve(s.listener)
		return nil
	}
	return errors.New("no solver for " + challenge.Type)
}

func (s *solver) CleanUp(_ context.Context, challenge acme.Challenge) error {
	if s.listener != nil {
		return s.listener.Close()
	}
	if challenge.Type == acme.ChallengeTypeDNS01 {
		return os.Remove(record(challenge))
	}
	return nil
}

func record(challenge acme.Challenge) string {
	return os.Getenv("HOOK_RECORDS") + "/" + challenge.DNS01TXTRecordName()
}

// Shakes hands and hangs up, for as long as the listener is open.
func serve(listener net.Listener) {
	for {
		connection, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			_ = connection.(*tls.Conn).Handshake()
			_ = connection.Close()
		}()
	}
}

func byAutocert(ctx context.Context, verb, name, method string) error {
	manager := &autocert.Manager{
		Prompt: autocert.AcceptTOS,
		Cache:  autocert.DirCache("cache"),
		// Not HostWhitelist: the Host of a request at another port than 80 has the port in it.
		HostPolicy: func(_ context.Context, host string) error {
			if host != name && !strings.HasPrefix(host, name+":") {
				return errors.New("not our name")
			}
			return nil
		},
		Client: &cryptoacme.Client{DirectoryURL: os.Getenv("DIRECTORY")},
	}
	if kid := os.Getenv("EAB_KID"); kid != "" {
		secret, err := base64.RawURLEncoding.DecodeString(os.Getenv("EAB_SECRET"))
		if err != nil {
			return err
		}
		manager.ExternalAccountBinding = &cryptoacme.ExternalAccountBinding{KID: kid, Key: secret}
	}
	if verb != "enrol" {
		return underAutocert(ctx, verb)
	}
	if method == "http-01" {
		listener, err := net.Listen("tcp", os.Getenv("HTTP"))
		if err != nil {
			return err
		}
		handler := manager.HTTPHandler(nil) // which tells the manager that it may use http-01
		go func() { _ = http.Serve(listener, handler) }()
	} else {
		listener, err := tls.Listen("tcp", os.Getenv("HOOK_TLS"), manager.TLSConfig())
		if err != nil {
			return err
		}
		go serve(listener)
	}
	hello := &tls.ClientHelloInfo{
		ServerName:       name,
		SupportedCurves:  []tls.CurveID{tls.CurveP256},
		SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256},
		CipherSuites:     []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
	}
	certificate, err := manager.GetCertificate(hello)
	if err != nil {
		return err
	}
	var text strings.Builder
	for _, der := range certificate.Certificate {
		_ = pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	return os.WriteFile("chain.pem", []byte(text.String()), 0o644)
}

// autocert has no verbs for these; the package below it does, with the account's key that autocert keeps.
func underAutocert(ctx context.Context, verb string) error {
	const kept = "cache/acme_account+key"
	key, err := loadKey(kept)
	if err != nil {
		return err
	}
	client := &cryptoacme.Client{DirectoryURL: os.Getenv("DIRECTORY"), Key: key}
	switch verb {
	case "rekey":
		next, err := newKey(kept)
		if err != nil {
			return err
		}
		return client.AccountKeyRollover(ctx, next)
	case "deactivate":
		return client.DeactivateReg(ctx)
	}
	certificate, err := loadCertificate("chain.pem")
	if err != nil {
		return err
	}
	return client.RevokeCert(ctx, nil, certificate.Raw, cryptoacme.CRLReasonSuperseded)
}

// Loads a key, or makes it.
func loadKey(file string) (crypto.Signer, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return newKey(file)
	}
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	return x509.ParseECPrivateKey(block.Bytes)
}

// Makes a key in place of the one that is there.
func newKey(file string) (crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return key, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600)
}

func loadCertificate(file string) (*x509.Certificate, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	return x509.ParseCertificate(block.Bytes)
}
