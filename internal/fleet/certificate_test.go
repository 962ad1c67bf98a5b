package fleet

import (
	"crypto/x509"
	"errors"
	"net/url"
	"testing"

	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/testkit"
)

func TestCertificateName(t *testing.T) {
	ca := testkit.NewCA(t)
	for name, c := range map[string]struct {
		uris []string
		want string
	}{
		"one":                  {[]string{"wilco:site/pump"}, "site/pump"},
		"beside others":        {[]string{"spiffe://x/y", "wilco:site/pump"}, "site/pump"},
		"colons":               {[]string{"wilco:a:b/c:d"}, "a:b/c:d"},
		"none":                 {nil, ""},
		"another scheme":       {[]string{"https://site/pump"}, ""},
		"two":                  {[]string{"wilco:site/pump", "wilco:site/valve"}, ""},
		"twice":                {[]string{"wilco:site/pump", "wilco:site/pump"}, ""},
		"empty":                {[]string{"wilco:"}, ""},
		"a host":               {[]string{"wilco://site/pump"}, ""},
		"a path":               {[]string{"wilco:/site/pump"}, ""},
		"a query":              {[]string{"wilco:site/pump?x"}, ""},
		"an empty query":       {[]string{"wilco:site/pump?"}, ""},
		"a fragment":           {[]string{"wilco:site/pump#x"}, ""},
		"percent is no escape": {[]string{"wilco:site%2Fpump"}, "site%2Fpump"},
	} {
		cert := ca.Sign("site/pump", func(x *x509.Certificate) {
			for _, s := range c.uris {
				u, err := url.Parse(s)
				if err != nil {
					t.Fatal(err)
				}
				x.URIs = append(x.URIs, u)
			}
		})
		got, err := CertificateName(cert.Leaf)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestLoginCertificate(t *testing.T) {
	r := newRig(t)
	secret := r.add(pump, "")
	d, none, err := r.Add(t.Context(), NewDevice{Address: valve, Certificate: true})
	if err != nil || none != "" || !ByCertificate(&d) {
		t.Fatalf("%q %v", none, err)
	}
	r.restart()
	for name, c := range map[string]struct {
		certified, username, password, id string
		want                              error // nil: in; errAny: any fault
	}{
		"certificate alone":              {"site/valve", "", "", "site/valve", nil},
		"with the user name":             {"site/valve", "site/valve", "", "site/valve", nil},
		"a password that nobody made":    {"site/valve", "site/valve", "x", "site/valve", errAny},
		"user name of another":           {"site/valve", "site/pump", "", "site/valve", ErrCertificate},
		"all of another, and its secret": {"site/valve", "site/pump", secret, "site/pump", ErrCertificate},
		"client id of another":           {"site/valve", "", "", "site/pump", ErrClientID},
		"no client id":                   {"site/valve", "", "", "", ErrClientID},
		"secret besides":                 {"site/pump", "site/pump", secret, "site/pump", nil},
		"secret, no user name":           {"site/pump", "", secret, "site/pump", nil},
		"secret left out":                {"site/pump", "site/pump", "", "site/pump", errAny},
		"wrong secret":                   {"site/pump", "site/pump", "x", "site/pump", errAny},
		"nobody":                         {"site/none", "", "", "site/none", errAny},
		"not an address":                 {"valve", "", "", "valve", errAny},
	} {
		var password []byte
		if c.password != "" {
			password = []byte(c.password)
		}
		i, err := r.LoginCertificate(c.certified, c.username, password, c.id)
		switch {
		case c.want == nil:
			if err != nil || i.Name() != c.certified {
				t.Errorf("%s: %v", name, err)
			}
		case c.want == errAny:
			if fault.CodeOf(err) != fault.Unauthenticated || i != nil {
				t.Errorf("%s: %v", name, err)
			}
		case !errors.Is(err, c.want) || i != nil:
			t.Errorf("%s: %v", name, err)
		}
	}
	// What is kept in the place of the secret is no secret.
	for _, password := range []string{"", byCertificate, none} {
		if _, err := r.Login("site/valve", []byte(password), "site/valve"); err == nil {
			t.Errorf("the password %q opens a device that has none", password)
		}
	}
	live, err := r.LoginCertificate("site/valve", "", nil, "site/valve")
	if err != nil {
		t.Fatal(err)
	}
	r.disable(valve, true)
	if _, err := r.LoginCertificate("site/valve", "", nil, "site/valve"); err == nil || live.MayPublish("plant/site/valve/ack") {
		t.Error("a disabled device still has its rights")
	}
	r.disable(valve, false)
	if _, secret, err = r.Rotate(t.Context(), valve); err != nil {
		t.Fatal(err)
	}
	if _, err := r.LoginCertificate("site/valve", "", nil, "site/valve"); err == nil {
		t.Error("a device with a secret came in without it")
	}
	if _, err := r.LoginCertificate("site/valve", "", []byte(secret), "site/valve"); err != nil {
		t.Error(err)
	}
}

var errAny = errors.New("any")
