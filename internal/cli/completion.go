package cli

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/wilco-iot/wilco/client"
)

// completeWithin bounds how long a shell waits for the server's names.
const completeWithin = 2 * time.Second

// names are the words, out of those that the server knows, that may stand where
// the user is; args are those before. What follows a tab describes a word.
type names func(ctx context.Context, c *client.Client, args []string, begun string) ([]string, error)

// complete gives every command below root the completion of its arguments, as its
// usage names them, and of its flags. What the server must be asked for is left out
// in silence when it does not answer: a shell has no place for an error.
func (a *app) complete(root *cobra.Command) {
	for _, c := range root.Commands() {
		a.complete(c)
		words := strings.Fields(c.Use)[1:]
		if flag := slices.IndexFunc(words, func(w string) bool { return strings.HasPrefix(w, "-") }); flag >= 0 {
			words = words[:flag]
		}
		c.ValidArgsFunction = func(c *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
			if len(args) >= len(words) {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return a.suggest(c.Context(), argumentNames(c, words[len(args)]), args, begun)
		}
		for flag, f := range map[string]names{"group": bareGroups, "device": deviceNames, "tid": commandIDs, "via": deviceNames} {
			if c.Flags().Lookup(flag) != nil {
				_ = c.RegisterFlagCompletionFunc(flag, func(c *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
					return a.suggest(c.Context(), f, args, begun)
				}) // fails for a flag that is not there
			}
		}
		for flag, values := range map[string][]string{"role": {"viewer", "operator", "approver", "admin"}, "profile": {"wilco", "atlas", "sparkplug"},
			"backoff": {"none", "linear", "exponential"}, "log-level": {"debug", "info", "warn", "error"}, "mqtt-version": {"5", "3.1.1"}} {
			if c.Flags().Lookup(flag) != nil {
				_ = c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
			}
		}
	}
}

// argumentNames is what an argument may be: word is what the usage of c calls it.
// Nil: the names of files.
func argumentNames(c *cobra.Command, word string) names {
	under := c.Parent().Name()
	switch word = strings.Trim(word, "[]."); {
	case word == "GROUP/DEVICE" && c.Name() == "add":
		return groupNames
	case word == "GROUP/DEVICE" || word == "GROUP/GATEWAY" || word == "GROUP/NODE" || word == "GROUP/NODE[:DEVICE":
		return deviceNames
	case word == "TID":
		return commandIDs
	case word == "COMMAND":
		return commandNames
	case word == "ID" && under == "rollout":
		return rolloutNames
	case word == "ID" && under == "token":
		return tokenNames
	case word == "DIR" || strings.HasSuffix(word, "FILE"):
		return nil
	case word == "NAME" && c.Name() != "add":
		if f := map[string]names{"type": typeNames, "user": userNames, "hook": hookNames}[under]; f != nil {
			return f
		}
	}
	return func(context.Context, *client.Client, []string, string) ([]string, error) { return nil, nil }
}

func (a *app) suggest(ctx context.Context, f names, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	if f == nil {
		return nil, cobra.ShellCompDirectiveDefault
	}
	ctx, cancel := context.WithTimeout(ctx, completeWithin)
	defer cancel()
	c, err := a.connect()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	found, err := f(ctx, c, args, begun)
	if err != nil {
		cobra.CompDebugln(err.Error(), false)
	}
	found = harmless(found, begun)
	directive := cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
	if len(found) > 0 && strings.HasSuffix(found[0], "/") { // a device follows
		directive |= cobra.ShellCompDirectiveNoSpace
	}
	return found, directive
}

// inNames are the characters that addresses, ids and names are made of.
const inNames = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:-/"

// harmless are those of found that begin so and that a shell may be told: devices and
// people have written them, and what stands on a command line is executed.
func harmless(found []string, begun string) (out []string) {
	for _, s := range found {
		word, text, _ := strings.Cut(s, "\t")
		if word == "" || word[0] == '-' || !strings.HasPrefix(word, begun) || strings.Trim(word, inNames) != "" {
			continue
		}
		if text != "" {
			word += "\t" + clean(text)
		}
		out = append(out, word)
	}
	return out
}

// deviceNames are the devices of the group that is begun; without one, the groups,
// where there are several.
func deviceNames(ctx context.Context, c *client.Client, args []string, begun string) ([]string, error) {
	group, _, found := strings.Cut(begun, "/")
	if !found {
		groups, err := groupNames(ctx, c, args, begun)
		if err != nil || len(groups) != 1 {
			return groups, err
		}
		group = strings.TrimSuffix(groups[0], "/")
	}
	page, err := c.Devices(ctx, client.DeviceOptions{Group: group, Limit: 1000})
	if err != nil {
		return nil, err
	}
	var out []string
	for _, d := range page.Items {
		out = append(out, d.Device+"\t"+presence(&d))
	}
	return out, nil
}

// groupNames are those of the first thousand devices, each with a slash.
func groupNames(ctx context.Context, c *client.Client, _ []string, begun string) ([]string, error) {
	page, err := c.Devices(ctx, client.DeviceOptions{Limit: 1000})
	if err != nil {
		return nil, err
	}
	var out []string
	for _, d := range page.Items {
		if group, _, _ := strings.Cut(d.Device, "/"); strings.HasPrefix(group+"/", begun) {
			out = append(out, group+"/")
		}
	}
	return slices.Compact(out), nil
}

// bareGroups are groupNames where no device follows.
func bareGroups(ctx context.Context, c *client.Client, args []string, begun string) ([]string, error) {
	list, err := groupNames(ctx, c, args, begun)
	for i := range list {
		list[i] = strings.TrimSuffix(list[i], "/")
	}
	return list, err
}

// commandIDs are those of the newest commands.
func commandIDs(ctx context.Context, c *client.Client, _ []string, _ string) ([]string, error) {
	page, err := c.List(ctx, client.ListOptions{Limit: 20})
	if err != nil {
		return nil, err
	}
	var out []string
	for _, m := range page.Items {
		out = append(out, m.TID+"\t"+m.Device+" "+m.Name+" "+string(m.State))
	}
	return out, nil
}

// commandNames are those that the device says it knows; the types when it has said
// nothing, or no device is named.
func commandNames(ctx context.Context, c *client.Client, args []string, begun string) ([]string, error) {
	if len(args) > 0 {
		if d, err := c.Device(ctx, args[0]); err == nil && len(d.Presence.Commands) > 0 {
			return d.Presence.Commands, nil
		}
	}
	return typeNames(ctx, c, args, begun)
}

func typeNames(ctx context.Context, c *client.Client, _ []string, _ string) ([]string, error) {
	list, err := c.Types(ctx)
	return each(list, func(t client.CommandType) string { return t.Name + "\t" + t.Description }), err
}

func userNames(ctx context.Context, c *client.Client, _ []string, _ string) ([]string, error) {
	list, err := c.Users(ctx)
	return each(list, func(u client.User) string { return u.Name }), err
}

func hookNames(ctx context.Context, c *client.Client, _ []string, _ string) ([]string, error) {
	list, err := c.Hooks(ctx)
	return each(list, func(h client.Hook) string { return h.Name }), err
}

func rolloutNames(ctx context.Context, c *client.Client, _ []string, _ string) ([]string, error) {
	list, err := c.Rollouts(ctx)
	return each(list, func(r client.Rollout) string { return r.ID + "\t" + string(r.State) }), err
}

func tokenNames(ctx context.Context, c *client.Client, _ []string, _ string) ([]string, error) {
	list, err := c.Tokens(ctx)
	return each(list, func(t client.APIToken) string { return t.ID + "\t" + t.Name }), err
}

func each[T any](list []T, text func(T) string) []string {
	var out []string
	for _, v := range list {
		out = append(out, text(v))
	}
	return out
}
