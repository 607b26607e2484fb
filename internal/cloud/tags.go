package cloud

import (
	"maps"
	"net/url"
	"slices"

	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	iottypes "github.com/aws/aws-sdk-go-v2/service/iot/types"
)

// tags are those of a resource of ours; more are pairs of key and value, and
// one with an empty value is left out.
func tags(more ...string) map[string]string {
	t := map[string]string{tagOwner: ownerIs}
	for i := 0; i+1 < len(more); i += 2 {
		if more[i+1] != "" {
			t[more[i]] = more[i+1]
		}
	}
	return t
}

func iotTags(t map[string]string) []iottypes.Tag {
	var out []iottypes.Tag
	for _, k := range slices.Sorted(maps.Keys(t)) {
		out = append(out, iottypes.Tag{Key: &k, Value: new(t[k])})
	}
	return out
}

func iamTags(t map[string]string) []iamtypes.Tag {
	var out []iamtypes.Tag
	for _, k := range slices.Sorted(maps.Keys(t)) {
		out = append(out, iamtypes.Tag{Key: &k, Value: new(t[k])})
	}
	return out
}

// ruleTags is how CreateTopicRule takes them: as a query.
func ruleTags(t map[string]string) string {
	v := url.Values{}
	for k, s := range t {
		v.Set(k, s)
	}
	return v.Encode()
}
