package service

import (
	"fmt"
	"slices"
	"strings"

	"github.com/wilco-iot/wilco/internal/catalog"
	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/near"
	"github.com/wilco-iot/wilco/wire"
)

// Supports says whether a device has told that it knows the command. Known is false
// when it has told nothing: then it may know any, and supported is true. It does not
// block, and checks no rights: it is for parts of the server.
func (s *Service) Supports(device wire.Address, name string) (supported, known bool) {
	names := s.opt.Engine.Presence(device).Commands
	if len(names) == 0 {
		return true, false
	}
	return slices.Contains(names, name), true
}

// supported refuses an order that its device has told it does not know. The server's
// own names are let through: what is desired reaches a device by other ways too.
func (s *Service) supported(o *Order) error {
	if ok, _ := s.Supports(o.Device, o.Name); ok || strings.HasPrefix(o.Name, catalog.Reserved) {
		return nil
	}
	names := s.opt.Engine.Presence(o.Device).Commands
	has := "it knows " + listed(names, 5)
	if like := near.Names(o.Name, names); len(like) > 0 {
		has = "did you mean " + strings.Join(like, " or ") + "?"
	}
	return fault.Field("name", "the device %s does not know %s; %s", o.Device, o.Name, has)
}

// listed writes the first names of a list, and how many more there are.
func listed(names []string, most int) string {
	if more := len(names) - most; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), more)
	}
	return strings.Join(names, ", ")
}
