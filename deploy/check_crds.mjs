// Validates objects of custom kinds, a JSON array on standard input, by models from npm: node check_crds.mjs FOLDER
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const models = {
  "keda.sh/v1alpha1": "keda/keda.sh/v1alpha1",
  "monitoring.coreos.com/v1": "prometheus-operator/monitoring.coreos.com/v1",
};
let failures = 0;
for (const object of JSON.parse(readFileSync(0, "utf-8"))) {
  const folder = join(process.argv[2], "node_modules", "@kubernetes-models", models[object.apiVersion]);
  const found = await import(pathToFileURL(join(folder, `${object.kind}.js`)));
  try {
    const Model = found[object.kind] ?? found.default[object.kind]; // one package is CommonJS
    new Model(object).validate();
  } catch (error) {
    failures += 1;
    console.log(`${object.kind} ${object.metadata.name}: ${error.message}`);
  }
}
process.exit(failures ? 1 : 0);
