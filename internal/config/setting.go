package config

import (
	"encoding"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Setting is one value of a Config and what there is to say of it.
type Setting struct {
	Path    string // in the file, with dots: mqtt.tls.cert
	Env     string // WILCO_MQTT_TLS_CERT
	Flag    string // mqtt-tls-cert, without the dashes
	Type    string // text, duration, number, true or false
	Default string
	OneOf   []string
	Doc     string
	secret  string
	index   []int // of the field, through the structs above it
}

// settings is the table of all settings, in the order of the struct.
var settings = tableOf(reflect.TypeFor[Config](), "", nil)

// Settings lists all settings, in the order of the file.
func Settings() []Setting { return slices.Clone(settings) }

func tableOf(t reflect.Type, prefix string, index []int) (table []Setting) {
	for i := range t.NumField() {
		f := t.Field(i)
		path := prefix + f.Tag.Get("key")
		at := append(slices.Clone(index), i)
		if f.Type.Kind() == reflect.Struct {
			table = append(table, tableOf(f.Type, path+".", at)...)
			continue
		}
		s := Setting{Path: path, Type: typeName(f.Type), Default: f.Tag.Get("default"), Doc: f.Tag.Get("doc"),
			secret: f.Tag.Get("secret"), index: at}
		if list := f.Tag.Get("oneof"); list != "" {
			s.OneOf = strings.Split(list, ",")
		}
		words := kebab(path)
		s.Flag = strings.ReplaceAll(words, ".", "-")
		s.Env = "WILCO_" + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(words))
		table = append(table, s)
	}
	return table
}

// kebab writes policy.ackBy as policy.ack-by, and tls.clientCA as tls.client-ca.
func kebab(path string) string {
	var b strings.Builder
	small := false
	for _, c := range path {
		if 'A' <= c && c <= 'Z' {
			if small {
				b.WriteByte('-')
			}
			small = false
			c += 'a' - 'A'
		} else {
			small = true
		}
		b.WriteRune(c)
	}
	return b.String()
}

func typeName(t reflect.Type) string {
	if reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
		return "duration"
	}
	switch t.Kind() {
	case reflect.Int, reflect.Float64:
		return "number"
	case reflect.Bool:
		return "true or false"
	}
	return "text"
}

func (s *Setting) field(c *Config) reflect.Value {
	return reflect.ValueOf(c).Elem().FieldByIndex(s.index)
}

// set reads text into the setting's place in c.
func (s *Setting) set(c *Config, text string) error {
	v := s.field(c)
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		if text == "" {
			text = "0s"
		}
		return u.UnmarshalText([]byte(text))
	}
	switch v.Kind() {
	case reflect.Int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("%q is not a whole number", text)
		}
		v.SetInt(int64(n))
	case reflect.Float64:
		n, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return fmt.Errorf("%q is not a number", text)
		}
		v.SetFloat(n)
	case reflect.Bool:
		switch text {
		case "true", "false":
			v.SetBool(text == "true")
		default:
			return fmt.Errorf("%q is neither true nor false", text)
		}
	default:
		if len(s.OneOf) > 0 && !slices.Contains(s.OneOf, text) {
			return fmt.Errorf("%q is not one of %s", text, strings.Join(s.OneOf, ", "))
		}
		v.SetString(text)
	}
	return nil
}

// Value is the setting's value in c as text, a secret masked.
func (s *Setting) Value(c *Config) string {
	text := fmt.Sprint(s.field(c).Interface())
	if s.Type == "duration" {
		text = short(text)
	}
	if s.secret == "" || text == "" {
		return text
	}
	return mask(text)
}

// short leaves out the zeros that time.Duration writes: 24h for 24h0m0s.
func short(d string) string {
	if rest, ok := strings.CutSuffix(d, "m0s"); ok {
		d = rest + "m"
	}
	if rest, ok := strings.CutSuffix(d, "h0m"); ok {
		d = rest + "h"
	}
	return d
}

// mask hides the password of a URL; what is no URL is hidden whole.
func mask(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return "***"
	}
	if _, has := u.User.Password(); has {
		return strings.Replace(u.Redacted(), ":xxxxx@", ":***@", 1)
	}
	return u.String()
}
