package settings

import "reflect"

// Changed names the keys whose values differ between two settings, in the
// order of the reference page.
func Changed(a, b *Settings) []string {
	var names []string
	others := b.fields()
	for i, f := range a.fields() {
		if !reflect.DeepEqual(f.value.Interface(), others[i].value.Interface()) {
			names = append(names, f.name())
		}
	}
	return names
}
