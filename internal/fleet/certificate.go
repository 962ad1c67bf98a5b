package fleet

import (
	"crypto/x509"
	"errors"
	"net/url"

	"github.com/wilco-iot/wilco/internal/store"
)

// CertificateScheme is that of the URI by which a certificate names its holder.
const CertificateScheme = "wilco"

// CertificateName is whom a certificate was made for: what follows the scheme in
// the one URI wilco:NAME among its subject alternative names, byte for byte. The
// name of a device is group/device. A certificate with none, or with two, names
// nobody.
func CertificateName(c *x509.Certificate) (string, error) {
	name := ""
	for _, u := range c.URIs {
		if u.Scheme != CertificateScheme {
			continue
		}
		if name != "" {
			return "", errors.New("the certificate names two")
		}
		if u.Opaque == "" || *u != (url.URL{Scheme: u.Scheme, Opaque: u.Opaque}) {
			return "", errors.New("the certificate's wilco URI is not wilco:NAME")
		}
		name = u.Opaque
	}
	if name == "" {
		return "", errors.New("the certificate has no wilco URI")
	}
	return name, nil
}

// byCertificate is what is kept in the place of a secret for a device that has
// none and logs in with a certificate. Stored; never change.
const byCertificate = "\x02"

// ByCertificate says whether a device logs in with a certificate alone.
func ByCertificate(d *store.Device) bool { return string(d.Secret) == byCertificate }
