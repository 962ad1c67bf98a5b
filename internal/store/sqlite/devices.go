package sqlite

import (
	"bytes"
	"context"
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"iter"
	"strings"

	"github.com/wilco-iot/wilco/internal/fault"
	"github.com/wilco-iot/wilco/internal/store"
	"github.com/wilco-iot/wilco/wire"
)

const deviceColumns = `address, secret, profile, window, tags, note, disabled, created, rotated, version,
	known, online, boot, firmware, since, seen, commands, via`

// PutDevice writes a device in place of its version was; 0 means that there must
// be none. The new version is was + 1. Presence is not written: it comes by
// Commit. Errors: Exists, NotFound, Conflict.
func (s *Store) PutDevice(ctx context.Context, d store.Device, was int64) error {
	if err := d.Address.Valid(); err != nil {
		return fault.Wrap(err, fault.Invalid, "%s", err)
	}
	tags, err := json.Marshal(d.Tags)
	if err != nil {
		return fmt.Errorf("store: tags: %w", err)
	}
	address := d.Address.String()
	d.Secret = bytes.Clone(d.Secret)
	_, err = s.submit(ctx, change(func(t *tx) error {
		version, err := t.number(context.Background(), "SELECT version FROM devices WHERE address = ?", address)
		if err != nil {
			return err
		}
		if no := mismatch(address, version, was); no != nil {
			return refusal{no}
		}
		var secret driver.Value
		if d.Secret != nil {
			secret = d.Secret
		}
		_, err = t.exec(`INSERT INTO devices (address, secret, profile, window, tags, note, disabled, created, rotated, version, via)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT DO UPDATE SET secret = excluded.secret, profile = excluded.profile, window = excluded.window, tags = excluded.tags,
			note = excluded.note, disabled = excluded.disabled, created = excluded.created, rotated = excluded.rotated, version = excluded.version, via = excluded.via`,
			address, secret, d.Profile, int64(d.Window), string(tags), d.Note, flag(d.Disabled), millis(d.Created), millis(d.Rotated), was+1, viaText(d.Via))
		return err
	}))
	return err
}

func mismatch(address string, version, was int64) error {
	switch {
	case version == was:
		return nil
	case was == 0:
		return fault.New(fault.Exists, "device %s exists already", address)
	case version == 0:
		return fault.New(fault.NotFound, "there is no device %s", address)
	}
	return fault.New(fault.Conflict, "device %s has been changed meanwhile: it is at version %d, not %d", address, version, was)
}

// Device gives a registered device, or NotFound.
func (s *Store) Device(ctx context.Context, a wire.Address) (d store.Device, err error) {
	var found bool
	err = s.read(ctx, func(c *conn) error {
		found, err = c.one(ctx, func(v []driver.Value) error {
			d, err = scanDevice(v)
			return err
		}, "SELECT "+deviceColumns+" FROM devices WHERE address = ?", a.String())
		return err
	})
	if err == nil && !found {
		err = fault.New(fault.NotFound, "there is no device %s", a)
	}
	return d, err
}

// Devices gives one page of the devices that q selects, in order of their
// addresses, and the cursor of the next page, "" when there is none.
func (s *Store) Devices(ctx context.Context, q store.DeviceQuery) (page []store.Device, next string, err error) {
	limit, err := pageLimit(q.Limit)
	if err != nil {
		return nil, "", err
	}
	online := "any"
	if q.Online != nil {
		online = fmt.Sprint(*q.Online)
	}
	mark := fingerprint("d", q.Group, strings.Join(q.Groups, ","), q.Tag, online)
	after, err := parseCursor(q.Cursor, mark)
	if err != nil {
		return nil, "", err
	}
	if _, err := wire.ParseAddress(string(after)); q.Cursor != "" && err != nil {
		return nil, "", errCursor()
	}
	from, to := groupRange(q.Group)
	if q.Group == "" {
		from, to = "", "\x7f"
	}
	sql := "SELECT " + deviceColumns + " FROM devices WHERE address > ? AND address >= ? AND address < ?"
	args := []driver.Value{string(after), from, to}
	if q.Group == "" && len(q.Groups) > 0 {
		condition, of := inGroups("address", q.Groups)
		sql += " AND " + condition
		args = append(args, of...)
	}
	if q.Online != nil {
		sql += " AND online = ?"
		args = append(args, flag(*q.Online))
	}
	if q.Tag != "" {
		sql += " AND EXISTS (SELECT 1 FROM json_each(tags) WHERE value = ?)"
		args = append(args, q.Tag)
	}
	err = s.read(ctx, func(c *conn) error {
		return c.query(ctx, func(v []driver.Value) error {
			if len(page) == limit {
				next = cursor(mark, []byte(page[limit-1].Address.String()))
				return nil
			}
			d, err := scanDevice(v)
			page = append(page, d)
			return err
		}, sql+" ORDER BY address LIMIT ?", append(args, int64(limit)+1)...)
	})
	if err != nil {
		return nil, "", err
	}
	return page, next, nil
}

// AllDevices gives all devices in order of their addresses. It reads in pages,
// so a slow consumer holds up nobody.
func (s *Store) AllDevices(ctx context.Context) iter.Seq2[store.Device, error] {
	return func(yield func(store.Device, error) bool) {
		q := store.DeviceQuery{Limit: maxLimit}
		for {
			page, next, err := s.Devices(ctx, q)
			if err != nil {
				yield(store.Device{}, err)
				return
			}
			for _, d := range page {
				if !yield(d, nil) {
					return
				}
			}
			if next == "" {
				return
			}
			q.Cursor = next
		}
	}
}

// RemoveDevice forgets a device, its presence, its anomalies, and its documents of
// these kinds, which are those of its address and those below it; or it answers
// NotFound. Its commands stay.
func (s *Store) RemoveDevice(ctx context.Context, a wire.Address, kinds ...store.Kind) error {
	_, err := s.submit(ctx, change(func(t *tx) error {
		n, err := t.exec("DELETE FROM devices WHERE address = ?", a.String())
		if err != nil {
			return err
		}
		if n == 0 {
			return refusal{fault.New(fault.NotFound, "there is no device %s", a)}
		}
		if _, err = t.exec("DELETE FROM anomalies WHERE device = ?", a.String()); err != nil {
			return err
		}
		for _, k := range kinds {
			key := a.String()
			_, err = t.exec("DELETE FROM documents WHERE kind = ? AND (key = ? OR key >= ? AND key < ?)", string(k), []byte(key), []byte(key+"/"), []byte(key+"0"))
			if err != nil {
				return err
			}
		}
		return nil
	}))
	return err
}

// Anomalies gives the last anomalies of a device, newest first; at most limit,
// below 1 all that are kept. An unknown device has none.
func (s *Store) Anomalies(ctx context.Context, a wire.Address, limit int) (list []store.Anomaly, err error) {
	if limit < 1 || limit > store.AnomaliesKept {
		limit = store.AnomaliesKept
	}
	err = s.read(ctx, func(c *conn) error {
		return c.query(ctx, func(v []driver.Value) error {
			var x store.Anomaly
			if err := json.Unmarshal(v[0].([]byte), &x); err != nil {
				return fmt.Errorf("store: a stored anomaly cannot be read: %w", err)
			}
			list = append(list, x)
			return nil
		}, "SELECT body FROM anomalies WHERE device = ? ORDER BY number DESC LIMIT ?", a.String(), int64(limit))
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

func scanDevice(v []driver.Value) (d store.Device, err error) {
	if d.Address, err = wire.ParseAddress(v[0].(string)); err != nil {
		return d, fmt.Errorf("store: a stored device cannot be read: %w", err)
	}
	d.Secret, _ = v[1].([]byte)
	d.Profile, d.Window = v[2].(string), int(v[3].(int64))
	if err := json.Unmarshal([]byte(v[4].(string)), &d.Tags); err != nil {
		return d, fmt.Errorf("store: the tags of device %s cannot be read: %w", d.Address, err)
	}
	d.Note, d.Disabled = v[5].(string), v[6].(int64) != 0
	d.Created, d.Rotated, d.Version = instant(v[7]), instant(v[8]), v[9].(int64)
	d.Presence = store.Presence{
		Device: d.Address, Known: v[10].(int64) != 0, Online: v[11].(int64) != 0,
		Boot: v[12].(string), Firmware: v[13].(string), Since: instant(v[14]), Seen: instant(v[15]),
	}
	if names := v[16].(string); names != "" {
		if err := json.Unmarshal([]byte(names), &d.Presence.Commands); err != nil {
			return d, fmt.Errorf("store: the commands of device %s cannot be read: %w", d.Address, err)
		}
	}
	if via := v[17].(string); via != "" {
		if d.Via, err = wire.ParseAddress(via); err != nil {
			return d, fmt.Errorf("store: the gateway of device %s cannot be read: %w", d.Address, err)
		}
	}
	return d, nil
}

// viaText is how a gateway is stored; "" for none.
func viaText(a wire.Address) string {
	if a == (wire.Address{}) {
		return ""
	}
	return a.String()
}
