package meter_test

import (
	"fmt"
	"os"

	"github.com/lacre-metrology/lacre/meter"
)

// A recording with one column for each loop becomes the channels of a capture.
// The rate is not in the file: Config.SampleRateMillihertz says 1,000,000 here.
func ExampleImportCSV() {
	f, err := os.Open("testdata/example.csv")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer f.Close()
	channels, err := meter.ImportCSV(f, meter.ImportOptions{Scale: 5000}) // per mille to 16 bits
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(len(channels), "channels of", len(channels[0]), "samples; sample 300:", channels[0][300], channels[1][300])
	// Output: 2 channels of 800 samples; sample 300: 25501 18662
}
