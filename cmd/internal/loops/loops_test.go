package loops

import "testing"

func TestUnknownNamesWhatWasMeant(t *testing.T) {
	there := []string{
		"cart/rate", "checkout/concurrency", "checkout/shed", "a/rate", "b/rate", "c/rate", "d/rate", "e/rate",
		"checkout/calls/payments", "shop/export/concurrency", "shop/export/shed",
	}
	for name, want := range map[string]string{
		"chekout/concurrency":    "there is no loop chekout/concurrency; did you mean checkout/concurrency?",
		"checkout/concurency":    "there is no loop or route checkout/concurency; did you mean checkout/concurrency?",
		"checkout/calls/payment": "there is no loop checkout/calls/payment; did you mean checkout/calls/payments?",
		"checkout/retry":         "there is no loop checkout/retry; checkout has checkout/calls/payments, checkout/concurrency, checkout/shed",
		"cart":                   "cart is a service, and a loop is asked for: it has cart/rate",
		"chekout":                "there is no service chekout; did you mean checkout?",
		"search/concurrency":     "there is no loop search/concurrency; none of the 11 that there are is like it",
		"shop/export":            "shop/export is a route, and a loop is asked for: it has shop/export/concurrency, shop/export/shed",
		"shop/exprt/shed":        "there is no loop shop/exprt/shed; did you mean shop/export/shed?",
		"shop/rate":              "there is no loop shop/rate; shop has no loop of its own, only its routes have: shop/export/concurrency, shop/export/shed",
		"shop":                   "there is no service shop; shop has no loop of its own, only its routes have: shop/export/concurrency, shop/export/shed",
		"shop/export/retry":      "there is no loop shop/export/retry; shop/export has shop/export/concurrency, shop/export/shed",
	} {
		if got := Unknown(name, there).Error(); got != want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, want)
		}
	}
	routes := append([]string{"checkout/export/concurrency", "checkout/export/shed", "checkout/bulk/concurrency"}, there...)
	for name, want := range map[string]string{
		"checkout/exprt":              "there is no loop or route checkout/exprt; did you mean checkout/export?",
		"checkout/concurency":         "there is no loop or route checkout/concurency; did you mean checkout/concurrency?",
		"export":                      "there is no service export; did you mean checkout/export?",
		"export/concurrency":          "there is no loop export/concurrency; did you mean checkout/export/concurrency?",
		"checkout/exprt/concurrency":  "there is no loop checkout/exprt/concurrency; did you mean checkout/export/concurrency?",
		"checkout/export/concurrncy":  "there is no loop checkout/export/concurrncy; did you mean checkout/export/concurrency?",
		"checkout/export/rate":        "there is no loop checkout/export/rate; checkout/export has checkout/export/concurrency, checkout/export/shed",
		"checkout/export":             "checkout/export is a route, and a loop is asked for: it has checkout/export/concurrency, checkout/export/shed",
		"checkout":                    "checkout is a service, and a loop is asked for: it has checkout/calls/payments, checkout/concurrency, checkout/shed",
		"checkout/unlike-all/unalike": "there is no loop checkout/unlike-all/unalike; none of the 14 that there are is like it",
		"chekout":                     "there is no service chekout; did you mean checkout?",
		"checkout/export/calls/x":     "there is no loop checkout/export/calls/x; checkout/export has checkout/export/concurrency, checkout/export/shed",
	} {
		if got := Unknown(name, routes).Error(); got != want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, want)
		}
	}
	if got, want := Unknown("x/rate", there[:1]).Error(), "there is no loop x/rate; there is cart/rate"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := Unknown("x/rate", nil).Error(), "there is no loop x/rate"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
