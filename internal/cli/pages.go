package cli

import (
	"fmt"
	"io"

	"github.com/wilco-iot/wilco/client"
)

// pages gets the page of a list at cursor and, with all, those behind it, as one.
func pages[T any](all bool, cursor string, get func(cursor string) (*client.Page[T], error)) (*client.Page[T], error) {
	page, err := get(cursor)
	for err == nil && all && page.Next != "" {
		var more *client.Page[T]
		if more, err = get(page.Next); err == nil {
			page.Items, page.Next = append(page.Items, more.Items...), more.Next
		}
	}
	return page, err
}

// sayMore tells how to see the rest of a list.
func sayMore(w io.Writer, next string) {
	if next != "" {
		fmt.Fprintf(w, "there are more: --cursor %s, or --all\n", clean(next))
	}
}
