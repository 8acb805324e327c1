// Thumbs up or down on an answer, kept by the server beside its receipt.
import { call } from "./http";

export type Rating = "up" | "down";

export async function rate(id: string, rating: Rating): Promise<void> {
  await call("/v1/feedback", { id, rating });
}
