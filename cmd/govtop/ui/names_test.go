package ui

import (
	"fmt"
	"strings"
	"testing"

	"github.com/seed-de83e32b/governor/cmd/internal/fit"
)

// fleetOf are the names of n services and of their loops, formatted with numbers.
func fleetOf(n int, format string) (names []string) {
	for i := range n {
		service := fmt.Sprintf(format, i)
		if strings.Contains(format, "%[2]d") {
			service = fmt.Sprintf(format, i/8, i%8)
		}
		names = append(names, service+"/concurrency", service+"/shed", service)
	}
	return names
}

// TestServicesWithTheSamePrefixAreToldApart: in every width that the table gives to names, no two loops read the same.
func TestServicesWithTheSamePrefixAreToldApart(t *testing.T) {
	for _, format := range []string{
		"team-0-service-%d", "team-0-service-%03d", "team-0-service-%d-production-eu-west-1", "%d-team-service-production-eu",
		"team-%d-service-%[2]d", "payments.team-%d.service-%[2]d.svc.cluster.local", "決済基盤-サービス-%d-本番環境-東京",
		"a-service-with-a-very-long-name-%d-from-the-path-of-its-repository",
	} {
		names := fleetOf(48, format)
		for w := loopWidthLeast; w <= loopWidthMost; w++ {
			seen := map[string]string{}
			for i, short := range shortNames(names, w) {
				full := names[i]
				if fit.Width(short) > w {
					t.Errorf("%s in %d cells: %q takes %d", full, w, short, fit.Width(short))
				}
				if other := seen[short]; other != "" && w >= 20 {
					t.Fatalf("in %d cells %s and %s both read %q", w, other, full, short)
				} else if other != "" && strings.HasPrefix(format, "team-") {
					t.Fatalf("in %d cells %s and %s both read %q", w, other, full, short)
				}
				seen[short] = full
			}
		}
	}
}

// TestShortNamesStayRecognizable: a name that fits is whole, the knob gives way before the service, and what is cut shows
// both ends, or its start where few cells are left.
func TestShortNamesStayRecognizable(t *testing.T) {
	names := []string{
		"checkout/concurrency", "payments-gateway-europe/rate", "cart/shed", "checkout/calls/payments-gateway-europe",
		"checkout/export/concurrency", "checkout/exporter/shed",
	}
	for w, want := range map[int]string{
		40: "checkout/concurrency payments-gateway-europe/rate cart/shed checkout/calls/payments-gateway-europe checkout/export/concurrency checkout/exporter/shed",
		20: "checkout/concurrency payment…-europe/rate cart/shed checkout/calls…urope checkout/export/con… checkou…xporter/shed",
		16: "checkout/con…ncy payme…urope/rate cart/shed checkout/cal…ope check…xport/conc check…orter/shed",
	} {
		if got := strings.Join(shortNames(names, w), " "); got != want {
			t.Errorf("in %d cells:\n got %s\nwant %s", w, got, want)
		}
	}
}
