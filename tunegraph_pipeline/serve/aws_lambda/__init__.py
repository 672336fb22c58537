"""TuneGraph as an AWS Lambda function: the handler, fetching a bundle, and making the zip."""
