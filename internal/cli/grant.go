package cli

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/wilco-iot/wilco/client"
	"github.com/wilco-iot/wilco/internal/fault"
)

// grantFlags say what somebody may do: one grant in three flags, or several in one
// word each.
type grantFlags struct {
	role             string
	groups, commands []string
	words            []string
}

// flags adds them to c; role is the default of --role.
func (g *grantFlags) flags(c *cobra.Command, role string) {
	f := c.Flags()
	f.StringVar(&g.role, "role", role, "viewer, operator, approver or admin")
	f.StringArrayVar(&g.groups, "group", nil, "only in this group (repeatable; default all)")
	f.StringArrayVar(&g.commands, "command", nil, "only commands of this name; valve.* means all that begin with valve. (repeatable; default all)")
	f.StringArrayVar(&g.words, "grant", nil, "in place of the three: ROLE[@GROUP,...][/COMMAND,...], as in operator@plant/valve.* (repeatable)")
}

// given says whether c was called with any of them.
func (g *grantFlags) given(c *cobra.Command) bool {
	for _, name := range []string{"role", "group", "command", "grant"} {
		if c.Flags().Changed(name) {
			return true
		}
	}
	return false
}

// grants are what the flags of c say.
func (g *grantFlags) grants(c *cobra.Command) ([]client.Grant, error) {
	if len(g.words) == 0 {
		return []client.Grant{{Role: client.Role(g.role), Groups: g.groups, Commands: g.commands}}, nil
	}
	if c.Flags().Changed("role") || len(g.groups)+len(g.commands) > 0 {
		return nil, fault.Field("grant", "give either --grant, or --role with --group and --command")
	}
	list := make([]client.Grant, 0, len(g.words))
	for _, word := range g.words {
		one, err := parseGrant(word)
		if err != nil {
			return nil, err
		}
		list = append(list, one)
	}
	return list, nil
}

func parseGrant(word string) (g client.Grant, err error) {
	rest, commands, limited := strings.Cut(word, "/")
	if limited {
		g.Commands = strings.Split(commands, ",")
	}
	role, groups, limited := strings.Cut(rest, "@")
	if limited {
		g.Groups = strings.Split(groups, ",")
	}
	if g.Role = client.Role(role); role == "" {
		return g, fault.Field("grant", "%q does not begin with a role; write it like operator@plant/valve.*", word)
	}
	return g, nil
}

// grantText is grants as people write them.
func grantText(grants []client.Grant) string {
	words := make([]string, len(grants))
	for i, g := range grants {
		words[i] = g.String()
	}
	return strings.Join(words, " ")
}
