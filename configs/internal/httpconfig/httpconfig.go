// Package httpconfig tells the strict decoder which part of Prometheus' HTTP client configuration governor supports.
// The types are Prometheus' own, so users find the keys they know; this package lists the keys that may be set and
// documents them.
package httpconfig

import (
	"errors"
	"net/url"
	"reflect"

	commonconfig "github.com/prometheus/common/config"

	"github.com/seed-de83e32b/governor/configs/internal/strict"
)

// Types lists the keys and reads the scalars. It leaves out the deprecated bearer_token, Prometheus' secret managers
// (…_ref), the JWT grants of OAuth 2.0, and inline certificates.
var Types = strict.Types{
	Keys: map[reflect.Type]map[string]string{
		reflect.TypeFor[commonconfig.HTTPClientConfig](): {
			"basic_auth":       "HTTP basic authentication.",
			"authorization":    "The Authorization header, for example a bearer token.",
			"oauth2":           "OAuth 2.0 with client credentials.",
			"tls_config":       "TLS to the server.",
			"follow_redirects": "Follow redirects. Unset: true.",
			"enable_http2":     "Use HTTP/2 if the server offers it. Unset: true.",
			"http_headers":     "Headers to add to every request, for example X-Scope-OrgID.",
		},
		reflect.TypeFor[commonconfig.ProxyConfig](): {
			"proxy_url":              "Proxy to go through.",
			"no_proxy":               "Addresses to reach without proxy_url, separated by commas.",
			"proxy_from_environment": "Take the proxy from HTTP_PROXY, HTTPS_PROXY and NO_PROXY.",
			"proxy_connect_header":   "Headers to send to the proxy with CONNECT, by name.",
		},
		reflect.TypeFor[commonconfig.BasicAuth](): {
			"username":      "User name.",
			"username_file": "File that holds the user name.",
			"password":      "Password. Prefer password_file.",
			"password_file": "File that holds the password, read for every request.",
		},
		reflect.TypeFor[commonconfig.Authorization](): {
			"type":             "Type of the credentials. Unset: Bearer.",
			"credentials":      "The credentials. Prefer credentials_file.",
			"credentials_file": "File that holds the credentials, read for every request.",
		},
		reflect.TypeFor[commonconfig.OAuth2](): {
			"client_id":          "Client ID.",
			"client_secret":      "Client secret. Prefer client_secret_file.",
			"client_secret_file": "File that holds the client secret.",
			"scopes":             "Scopes of the token.",
			"token_url":          "URL that issues tokens.",
			"endpoint_params":    "Parameters to add to the token URL.",
			"tls_config":         "TLS to the token URL.",
		},
		reflect.TypeFor[commonconfig.TLSConfig](): {
			"ca_file":              "CA certificate to check the server's certificate against.",
			"cert_file":            "Client certificate.",
			"key_file":             "Key of the client certificate.",
			"server_name":          "Name that the server's certificate must carry.",
			"insecure_skip_verify": "Accept any certificate. For experiments only.",
			"min_version":          "Lowest TLS version accepted: TLS12 or TLS13 (TLS10 and TLS11 exist). Unset: TLS12.",
			"max_version":          "Highest TLS version accepted.",
		},
		reflect.TypeFor[commonconfig.Header](): {
			"values":  "Values that are not secret.",
			"secrets": "Secret values. Prefer files.",
			"files":   "Files that hold values, read for every request.",
		},
	},
	Scalars: map[reflect.Type]strict.Scalar{
		reflect.TypeFor[commonconfig.Secret](): {
			Expected: "text", Secret: true,
			Parse: func(s string) (any, error) { return commonconfig.Secret(s), nil },
		},
		reflect.TypeFor[commonconfig.URL](): {
			Expected: "a URL like http://proxy:3128", Secret: true, // it may carry a password
			Parse: func(s string) (any, error) {
				u, err := url.Parse(s)
				if err != nil || u.Host == "" {
					return nil, errors.New("not a URL")
				}
				return commonconfig.URL{URL: u}, nil
			},
		},
		reflect.TypeFor[commonconfig.TLSVersion](): {
			Expected: "one of TLS13, TLS12, TLS11, TLS10",
			Parse: func(s string) (any, error) {
				v, ok := commonconfig.TLSVersions[s]
				if !ok {
					return nil, errors.New("unknown version")
				}
				return v, nil
			},
		},
	},
}
