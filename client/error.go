package client

import "fmt"

// Error is what the server answers instead of what was asked for: a problem
// document (RFC 9457) with a code out of a closed set (docs/reference/errors.md).
type Error struct {
	Type      string `json:"type,omitempty" doc:"urn:wilco:error: and the code"`
	Title     string `json:"title,omitempty"`
	Status    int    `json:"status" doc:"HTTP status"`
	Code      string `json:"code" doc:"one of a closed set; see docs/reference/errors.md"`
	Field     string `json:"field,omitempty" doc:"the field or parameter that is wrong, as the client wrote it"`
	Detail    string `json:"detail" doc:"what is wrong, for people"`
	Cure      string `json:"cure,omitempty" doc:"what to do about it"`
	RequestID string `json:"requestId,omitempty" doc:"find it in the server's log"`
}

// Error gives detail and field.
func (e *Error) Error() string {
	if e.Field != "" {
		return fmt.Sprintf("%s: %s", e.Field, e.Detail)
	}
	return e.Detail
}

// Is makes errors.Is match by code: errors.Is(err, &client.Error{Code: "not_found"}).
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code && t.Field == "" && t.Detail == ""
}
