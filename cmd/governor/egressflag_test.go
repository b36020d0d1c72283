package main

import (
	"reflect"
	"strings"
	"testing"
)

func TestEgressFlagIsRead(t *testing.T) {
	var f egressFlag
	for _, text := range []string{
		"payments=:9101=http://payments:8080",
		"search=[::1]:9102=https://10.0.0.1,https://10.0.0.2:8443/",
		"mail=unix:/run/checkout/mail.sock=http://[::1]:25000",
		"audit=0.0.0.0:9103=http://audit",
	} {
		if err := f.Set(text); err != nil {
			t.Fatal(err)
		}
	}
	want := egressFlag{
		{"payments", "tcp", "127.0.0.1:9101", "http", []string{"payments:8080"}},
		{"search", "tcp", "[::1]:9102", "https", []string{"10.0.0.1", "10.0.0.2:8443"}},
		{"mail", "unix", "/run/checkout/mail.sock", "http", []string{"[::1]:25000"}},
		{"audit", "tcp", "0.0.0.0:9103", "http", []string{"audit"}},
	}
	if !reflect.DeepEqual(f, want) {
		t.Errorf("%+v, want %+v", f, want)
	}
}

func TestEgressErrorsNameTheBadPart(t *testing.T) {
	for _, tc := range []struct{ text, part, expected string }{
		{"", "", egressSyntax},
		{"payments", "payments", egressSyntax},
		{"payments=:9101", "payments", egressSyntax},
		{"payments=http://payments:8080", "payments", egressSyntax},
		{"=:9101=http://payments", `NAME ""`, "a service name"},
		{"pay/ments=:9101=http://payments", `NAME "pay/ments"`, "a service name"},
		{"payments=http://payments:8080=:9101", `LISTEN "http://payments:8080"`, "comes after it"},
		{"payments==http://payments", `LISTEN ""`, "127.0.0.1:9101"},
		{"payments=9101=http://payments", `LISTEN "9101"`, "127.0.0.1:9101"},
		{"payments=:0=http://payments", `LISTEN ":0"`, "1 to 65535"},
		{"payments=:http=http://payments", `LISTEN ":http"`, "1 to 65535"},
		{"payments=:65536=http://payments", `LISTEN ":65536"`, "1 to 65535"},
		{"payments=unix:pay.sock=http://payments", `LISTEN "unix:pay.sock"`, "an absolute path"},
		{"payments=:9101=", `TARGET ""`, "a URL like"},
		{"payments=:9101=payments:8080", `TARGET "payments:8080"`, "a URL like"},
		{"payments=:9101=http://:8080", `TARGET "http://:8080"`, "a URL like"},
		{"payments=:9101=http://payments:", `TARGET "http://payments:"`, "a URL like"},
		{"payments=:9101=http://payments:x", `TARGET "http://payments:x"`, "a URL like"},
		{"payments=:9101=http://payments:0", `TARGET "http://payments:0"`, "a URL like"},
		{"payments=:9101=ftp://payments", `TARGET "ftp://payments"`, "a URL like"},
		{"payments=:9101=http://payments/v1", `TARGET "http://payments/v1"`, "without path"},
		{"payments=:9101=http://payments?a=1", `TARGET "http://payments?a=1"`, "without path"},
		{"payments=:9101=http://a,https://b", `TARGET "https://b"`, "the scheme http"},
		{"payments=:9101=http://a,http://a", `TARGET "http://a"`, "each instance once"},
		{"payments=:9101=http://a,", `TARGET ""`, "a URL like"},
		{"payments=:9101=http://127.0.0.1:9101", `TARGET "http://127.0.0.1:9101"`, "not LISTEN itself"},
		{"payments=:9101=http://u:hunter2@a", `TARGET "…@a"`, "without user"},
		{"payments=http://u:hunter2@a=:9101", `LISTEN "…@a"`, "comes after it"},
		{"payments=:9101=http://u:hunter2@a:x", `TARGET "…@a:x"`, "a URL like"},
		{"http://u:hunter2@a=:9101=b", "…@a", "a service name"},
		{"mail=:9200=http://mail-2", "NAME", "one --egress for each dependency"},
		{"payments=:9100=http://payments", `LISTEN "127.0.0.1:9100"`, "--egress=mail has this one"},
	} {
		f := egressFlag{{"mail", "tcp", "127.0.0.1:9100", "http", []string{"mail"}}}
		err := f.Set(tc.text)
		if err == nil {
			t.Errorf("%q is accepted", tc.text)
			continue
		}
		for _, want := range []string{"--egress=", tc.part, tc.expected} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q: %v; want it to say %q", tc.text, err, want)
			}
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v shows the password", tc.text, err)
		}
		if len(f) != 1 {
			t.Errorf("%q: refused, and added all the same", tc.text)
		}
	}
}
