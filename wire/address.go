package wire

import "strings"

// maxName is the longest group, device or transaction id, in bytes.
const maxName = 64

// Address says which device: a group (a site, line or tenant) and a name that
// is unique within it. Both are [A-Za-z0-9._:-]{1,64}, so that each is one
// MQTT topic level and neither can hold a wildcard.
type Address struct{ Group, Device string }

// ParseAddress reads "group/device".
func ParseAddress(s string) (Address, error) {
	group, device, found := strings.Cut(s, "/")
	if !found {
		return Address{}, &Error{Field: "address", Text: "has no slash; write group/device"}
	}
	a := Address{Group: group, Device: device}
	if err := a.Valid(); err != nil {
		return Address{}, err
	}
	return a, nil
}

// String returns "group/device".
func (a Address) String() string { return a.Group + "/" + a.Device }

// Valid returns nil, or an [*Error] that names the part at fault.
func (a Address) Valid() error {
	if !validName(a.Group) {
		return &Error{Field: "group", Text: nameRule}
	}
	if !validName(a.Device) {
		return &Error{Field: "device", Text: nameRule}
	}
	return nil
}

const nameRule = "must be 1 to 64 of the characters A-Z a-z 0-9 . _ : -"

// ValidTID tells whether s may be a transaction id: [A-Za-z0-9._:-]{1,64}.
// Servers make UUIDs of version 7, but any such string is accepted.
func ValidTID(s string) bool { return validName(s) }

func validName[S ~string | ~[]byte](s S) bool {
	if len(s) == 0 || len(s) > maxName {
		return false
	}
	for i := range len(s) {
		if !nameByte[s[i]] {
			return false
		}
	}
	return true
}

// nameByte marks the characters of groups, devices and transaction ids.
var nameByte = func() (t [256]bool) {
	for _, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:-") {
		t[c] = true
	}
	return t
}()
