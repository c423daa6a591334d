// Embeds texts with transformers.js: node embed.mjs TRANSFORMERS FOLDER NAME DTYPE TEXT...
// The model is FOLDER/NAME, and nothing else is asked. Prints the vectors as JSON.
const [library, folder, name, dtype, ...texts] = process.argv.slice(2);
const { env, pipeline } = await import(library);
env.allowRemoteModels = false;
env.localModelPath = folder;
const embed = await pipeline('feature-extraction', name, { dtype });
const vectors = await embed(texts, { pooling: 'mean', normalize: true });
process.stdout.write(JSON.stringify(vectors.tolist()), () => process.exit(0));
