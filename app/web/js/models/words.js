// How models and data sets are described in a few words.

/** @typedef {any} Model The model as the API shows it. */

/** @type {Record<string, string>} */
const OBJECTIVES = {
  beta: "β-VAE",
  annealed: "β-VAE, β falls during the training",
  capacity: "capacity C (Burgess et al.)",
  steered: "β steered towards a KL",
  factorvae: "FactorVAE",
  dipvae1: "DIP-VAE I",
  dipvae2: "DIP-VAE II",
  categorical: "categorical latents",
  adagvae: "Ada-GVAE",
};
/** @type {Record<string, string>} */
const NAMES = {
  mig: "MIG",
  mig_sup: "MIG-sup",
  sap: "SAP",
  modularity: "Modularity",
  factor_vae: "FactorVAE score",
  beta_vae: "β-VAE score",
  dci_disentanglement: "DCI disentanglement",
  dci_completeness: "DCI completeness",
  dci_informativeness: "DCI informativeness",
  infomec_modularity: "InfoMEC modularity",
  infomec_compactness: "InfoMEC compactness",
  infomec_explicitness: "InfoMEC explicitness",
  dci_es_explicitness: "DCI-ES explicitness",
  dci_es_size: "DCI-ES size",
  tad: "TAD",
  tad_captured: "TAD, attributes captured",
  infogan_cr_factor_vae: "FactorVAE score as in InfoGAN-CR",
  infogan_cr_beta_vae: "β-VAE score as in InfoGAN-CR",
  infogan_cr_sap: "SAP as in InfoGAN-CR",
  infogan_cr_dci_lasso_disentanglement: "DCI (Lasso) disentanglement as in InfoGAN-CR",
  infogan_cr_dci_lasso_completeness: "DCI (Lasso) completeness as in InfoGAN-CR",
  infogan_cr_dci_forest_disentanglement: "DCI (forest) disentanglement as in InfoGAN-CR",
  infogan_cr_dci_forest_completeness: "DCI (forest) completeness as in InfoGAN-CR",
  psnr: "PSNR, dB",
  ssim: "SSIM",
};

/** @param {string} name Name of a score as the API has it. @returns {string} */
export function scoreName(name) {
  return NAMES[name] ?? name.replaceAll("_", " ");
}

/**
 * Says how a model was trained.
 * @param {Model} model
 * @returns {string} Such as "capacity C (Burgess et al.) to 25 nats".
 */
export function objectiveText({ training }) {
  const { objective } = training ?? {};
  if (!objective) return "unknown";
  const words = OBJECTIVES[objective] ?? objective;
  if (objective === "capacity" && training.capacity_max) return `${words} to ${training.capacity_max} nats`;
  if (objective === "beta" && training.beta) return `${words}, β = ${training.beta}`;
  if (objective === "annealed" && training.beta_start)
    return `β-VAE, β from ${training.beta_start} to ${training.beta}`;
  return words;
}

/** @param {Model} model @returns {string} */
export function datasetText({ dataset }) {
  const name = dataset?.name || dataset?.id;
  if (!name) return "unknown";
  return dataset.num_images ? `${name}, ${countText(dataset.num_images)} pictures` : name;
}

/** @param {Model} model @returns {string} */
export function networkText({ network, active_dimensions: active, kl_per_dimension: kl }) {
  const pixels = `${network.image_size} px, ${network.num_channels === 1 ? "grey" : "colour"}`;
  return kl?.length
    ? `${active.length} of ${network.latent_dim} latents in use · ${pixels}`
    : `${network.latent_dim} latents · ${pixels}`;
}

/** @param {number} count @returns {string} Such as "65 536". */
export function countText(count) {
  return Math.round(count).toLocaleString("en").replaceAll(",", "\u202f");
}

/** @param {string | null | undefined} time ISO time. @returns {string} Such as "27 Nov 2026". */
export function dateText(time) {
  const date = new Date(time ?? "");
  return Number.isNaN(date.getTime())
    ? ""
    : date.toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric" });
}
