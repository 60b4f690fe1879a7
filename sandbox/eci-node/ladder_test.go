package main

import "testing"

// Each row is a sentence of the vendor's page, or a corner of its tables.
func TestRoundUpFollowsTheVendorsTables(t *testing.T) {
	rows := []struct {
		region string
		spot   bool
		asked  Spec
		want   string
	}{
		{"cn-hangzhou", false, Spec{7, 13}, "8.0-14.0Gi"},
		{"cn-hangzhou", false, Spec{3, 6}, "4.0-6.0Gi"},
		{"cn-hangzhou", false, Spec{4.25, 8.5}, "6.0-10.0Gi"},
		{"cn-hangzhou", false, Spec{4, 8}, "4.0-8.0Gi"},
		{"cn-hangzhou", false, Spec{3.25, 7.5}, "4.0-8.0Gi"},
		{"us-west-1", false, Spec{3.25, 7.5}, "4.0-8.0Gi"},
		{"cn-hangzhou", true, Spec{3.25, 7.5}, "4.0-8.0Gi"},
		{"us-west-1", false, Spec{7, 13}, "8.0-16.0Gi"},
		{"us-west-1", false, Spec{3, 6}, "4.0-8.0Gi"},
		{"us-west-1", false, Spec{0.1, 0.1}, "0.25-0.5Gi"},
		{"cn-hangzhou", true, Spec{0.1, 0.1}, "2.0-2.0Gi"},
		{"cn-hangzhou", true, Spec{4, 6}, "4.0-8.0Gi"},
		{"us-west-1", false, Spec{1, 9}, "2.0-16.0Gi"},
		{"us-west-1", false, Spec{33, 1}, "52.0-96.0Gi"},
		{"us-west-1", false, Spec{64, 512}, "64.0-512.0Gi"},
		{"us-west-1", false, Spec{64.5, 1}, ""},
		{"us-west-1", false, Spec{1, 513}, ""},
	}
	for _, row := range rows {
		rounded, ok := LadderOf(row.region, row.spot).RoundUp(row.asked)
		got := Offer{Spec: rounded}.Name()
		if !ok {
			got = ""
		}
		if got != row.want {
			t.Errorf("%s spot=%t %v: got %q, want %q", row.region, row.spot, row.asked, got, row.want)
		}
	}
}
